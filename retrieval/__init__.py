"""Embed once, search many: from video files to an index, and from a sentence to moments.

The folder stands at the top of the repository and is imported as `vmr.retrieval`. It imports models and data.
"""
