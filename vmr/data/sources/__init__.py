"""Training data by kind: each file here reads pairs of a video and a caption from one kind of source.

May be imported from: `source` (their interfaces), `annotated`, `tar`, `hub`, `hub_stream` and `shapes`.
Imports `annotations`, `shapes` and `decoding`.
"""
