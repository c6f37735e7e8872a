"""Video files to frames: readers, numbered frames, sampling, resizing, and decoding in worker processes.

Other rooms use `VideoReader` (video), `read_segments` (segments) and `DecodePool` (pool). Nothing here imports another
room of `vmr.data` or torch, so that worker processes start fast.
"""
