"""The VideoMamba encoder: backbone, mixer, pooling, the student head of training, and CUDA graphs.

Imports `vmr.ops` only.
"""
