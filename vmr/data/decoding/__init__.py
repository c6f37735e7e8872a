"""Video files to frames: readers, numbered frames, sampling, resizing, and decoding in worker processes.

Imports no other room of `vmr.data`, and no torch: worker processes start fast.
"""
