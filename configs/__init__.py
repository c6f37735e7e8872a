"""The shipped YAML: read any of them with `--config`, and give on the line only what differs."""
