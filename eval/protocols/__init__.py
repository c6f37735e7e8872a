"""What each published evaluation counts, as data: one small YAML file a protocol, and the loader that keeps to it."""
