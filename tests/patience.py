"""How long tests wait for what should end by itself."""

PATIENCE_S = 3600
"""Only what hangs for good is ended: a virtual machine may stand still for a quarter of an hour while time passes."""
