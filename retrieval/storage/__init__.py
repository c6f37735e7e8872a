"""The database of an index: one SQLite file that is the only truth, and the seal that notices lost commits.

`writer` changes it, `reader` reads it, `verify` checks every byte that means something. May import neither FAISS, nor
torch, nor any other package of vmr.retrieval.
"""
