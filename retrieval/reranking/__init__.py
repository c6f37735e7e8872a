"""Re-ranking: the best candidates of a query, scored again by a model that matches text and video tokens.

Imports `vmr.models.encoder`, and nothing else of `vmr.retrieval`.
"""
