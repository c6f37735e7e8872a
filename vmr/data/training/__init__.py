"""Training batches: clips cut and augmented, drawn from several sources in an order that the seed decides.

May be imported from: `loader` (batches and their position), `clips`, `augment`.
Imports `sources`, `annotations` and `decoding`.
"""
