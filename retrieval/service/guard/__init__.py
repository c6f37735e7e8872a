"""What stands before every route: who may ask, from where, and how much.

Each module is one ASGI middleware. May import nothing of the service but its options.
"""
