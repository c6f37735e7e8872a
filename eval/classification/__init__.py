"""Evaluation of classifiers: protocols as data, views scored once, accuracy with intervals, a report.

May import data, models and the parts of `vmr.eval` that retrieval and classification share.
"""
