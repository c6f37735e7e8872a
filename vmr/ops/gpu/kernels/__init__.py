"""The Triton kernels, one file each; `walk` has what those of the scan share.

They are launched by `scan`, `conv` and `norm` beside this folder and import nothing but each other.
"""
