"""The load tests themselves, against a real server."""
