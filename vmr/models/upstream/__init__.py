"""Checkpoints of the original VideoMamba: reading the files, matching every key, and the released models by name.

Imports `videomamba` and `text`.
"""
