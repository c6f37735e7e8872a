"""Annotation files to records and retrieval sets: which captions belong to which video, and where its file is.

May be imported from: `formats` and `records` for training, `retrieval_set` for evaluation, and `locator`.
Imports `decoding` and `shapes`.
"""
