"""How many streams a server carries, what bounds it, and what an operator should set: `voiceforge capacity`."""
