"""The commands: each parses, makes one library call and prints. Nothing imports this package."""
