"""Annotation files to records and retrieval sets: which captions belong to which video, and where its file is.

Imports `decoding` and `shapes`.
"""
