"""Bringing an index up to date with its files: what has changed, doing it, watching for it, and what it will cost.

May be imported from: `estimate` and `watch`. Imports the other packages of vmr.retrieval.
"""
