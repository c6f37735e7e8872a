"""Training data by kind: each file here reads pairs of a video and a caption from one kind of place.

May be imported from: `source` (what they have in common), `annotated`, `tar`, `hub`, `hub_stream` and `shapes`.
Imports `annotations`, `shapes` and `decoding`.
"""
