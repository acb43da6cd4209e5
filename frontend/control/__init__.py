"""Who may connect, and how many."""
