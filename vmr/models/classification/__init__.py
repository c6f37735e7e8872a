"""Classifiers: their networks by kind, what they cost, how they are saved, and `classify` for people's own videos.

May import the video encoders, `vmr.models.comparators` and the foundations of `vmr.models`; no data, no training.
"""
