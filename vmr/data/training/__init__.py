"""Training batches: clips cut and augmented, drawn from several sources in an order that the seed decides.

Imports `sources` and `decoding`.
"""
