"""Evaluation: `runner.evaluate` scores an encoder on a data set and returns a report.

`protocols` says what is counted, `metrics` computes it, `report` holds and shows it. The modules of this folder put
them together; they may also import `vmr.retrieval`, `vmr.models` and `vmr.data`.

The folder stands at the top of the repository, but its name for imports is `vmr.eval`: an installed package must not
occupy the global module name `eval`.
"""

if __name__ != "vmr.eval":
    raise ImportError(f"this folder is imported as vmr.eval, not as {__name__}")
