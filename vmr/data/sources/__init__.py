"""Training data by kind: each file here reads pairs of a video and a caption from one kind of place.

Imports `annotations`, `shapes` and `decoding`.
"""
