"""Data sets with labels: annotation lists of the published benchmarks, and folders with a subfolder for each class.

May import decoding and the annotation package; imports no torch.
"""
