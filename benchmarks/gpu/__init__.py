"""The device check: is it right on this GPU, and how fast, beside its floors and its peers."""
