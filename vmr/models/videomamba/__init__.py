"""The VideoMamba encoder: backbone, mixer, pooling, the student outputs of training, and CUDA graphs.

Imports `vmr.ops` and no other part of `vmr.models`.
"""
