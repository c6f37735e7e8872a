"""From files to frames and captions: everything that reads the user's files. No torch, and nothing of `vmr.models`.

`decoding` turns files into frames; `shapes` is the synthetic benchmark; `annotations` says which captions belong to
which video; `sources` reads training data of each kind; `training` makes batches of it. Each package imports only
packages named before it.
"""
