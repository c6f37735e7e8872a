"""The operations of `vmr.ops` on GPUs, by the Triton that torch brings, compiled when first used.

`scan` (by `scan_passes`), `conv` and `norm` launch the `kernels`; `support` says whether they can run, `tiles` how
large their programs are, `check` whether they are right. Imports torch and `vmr.ops`; `vmr.ops` alone chooses it.
"""
