"""The Triton kernels, one pass per file; `walk` holds the functions that the scan's kernels share.

Only `scan_passes`, `conv` and `norm` in `vmr.ops.gpu` launch them. They import nothing but each other.
"""
