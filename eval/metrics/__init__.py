"""From scores to ranks, metrics, intervals and alarms: functions of arrays, without a model, a config or a logger.

`ranks` defines the metrics, and `scoring` applies all of it to one column of a report. Everything may be imported.
Imports no torch and no other package of `vmr.eval`.
"""
