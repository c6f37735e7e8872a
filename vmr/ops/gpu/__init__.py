"""The operations of `vmr.ops` on GPUs, by the Triton that comes with torch; kernels are compiled when first used.

`scan` (with `scan_passes`), `conv` and `norm` launch the `kernels`; `support` says whether the kernels can run, and
`tiles` how large their programs are. Import only `check`, which tests the kernels on a GPU; `vmr.ops.backend` chooses
the rest.
"""
