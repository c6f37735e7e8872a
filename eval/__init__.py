"""Evaluation: `runner.evaluate` scores an encoder on a data set and returns a report.

`protocols` says what is counted, `metrics` computes it, `report` holds and shows it. The modules of this folder put
them together and may import all of them. Users import `evaluate` and `EvalOptions` from `runner`.
"""
