"""How long tests wait for what should end by itself."""

PATIENCE_S = 3600
"""Only what hangs for good is ended: a busy machine may leave a process without a CPU for minutes."""
