"""The device check: parity on this GPU, then speed, beside lower bounds and other implementations."""
