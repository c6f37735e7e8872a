"""The load that `vmr-serve` carries: an index of many moments, and processes that search, play and write it."""
