"""Frames, crops, views and samplers."""


class Data:
    """Frames, crops, views and samplers."""
