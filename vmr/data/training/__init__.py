"""Training batches: clips cut and augmented, drawn from several sources in an order that the seed decides.

May be imported from: `loader` (batches and their position), `clips`, `augment`, and `doctor`, which
looks a training set over.
Imports `sources`, `annotations` and `decoding`.
"""
