"""Training batches: augmented clips from several sources, in an order that depends on the seed.

May be imported from: `loader` (batches and their position), `clip_pool`, `clips` and `augment`.
Imports `sources`, `annotations` and `decoding`.
"""
