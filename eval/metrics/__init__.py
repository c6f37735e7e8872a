"""From scores to ranks, metrics, intervals and alarms: functions of arrays.

Imports no torch and no other room of `vmr.eval`.
"""
