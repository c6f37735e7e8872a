"""Embed once, search many: from video files to an index, and from a sentence to moments.

The folder stands at the top of the repository, but its name for imports is `vmr.retrieval`: an installed package must
not occupy the global module name `retrieval`. It may import `vmr.models` and `vmr.data`.
"""

if __name__ != "vmr.retrieval":
    raise ImportError(f"this folder is imported as vmr.retrieval, not as {__name__}")
