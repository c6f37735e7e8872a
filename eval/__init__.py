"""Evaluation: protocols, metrics, the run of an encoder over a data set, and reports.

The folder stands at the top of the repository, but its name for imports is `vmr.eval`: a distribution must not install
a module named `eval` for everybody. It may import `vmr.retrieval`, `vmr.models` and `vmr.data`.
"""

if __name__ != "vmr.eval":
    raise ImportError(f"this folder is imported as vmr.eval, not as {__name__}")
