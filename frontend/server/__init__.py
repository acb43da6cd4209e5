"""The asyncio shell: sockets, HTTP, and the execution of the core's effects."""
