"""The operations of `vmr.ops` in Triton, for CUDA and ROCm: one file a kernel, and `scan`, `conv`, `norm` to call them.

Nothing but `vmr.ops` imports from here. The kernels are compiled when first used, by the Triton that torch brings.
"""
