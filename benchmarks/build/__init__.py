"""How long `vmr-index build` takes: `python -m benchmarks.build`.

`footage` makes the videos, `measure` runs processes and measures them, `__main__` prints the tables.
"""
