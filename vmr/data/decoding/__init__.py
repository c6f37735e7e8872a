"""Video files to frames: readers, numbered frames, sampling, resizing, and decoding in worker processes.

Other packages use `VideoReader` (video), `read_segments` (segments) and `DecodePool` (pool). Nothing here imports
another package of `vmr.data` or torch, so that worker processes start fast.
"""
