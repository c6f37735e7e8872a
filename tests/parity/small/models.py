"""Classifiers, and checkpoints that are loaded for another size."""


class Models:
    """Classifiers, and checkpoints that are loaded for another size."""
