"""Training batches: augmented clips from several sources, in an order that depends on the seed.

May be imported from: `loader` (batches and their position), `clips`, `augment`, and `doctor`, which
looks a training set over.
Imports `sources`, `annotations` and `decoding`.
"""
