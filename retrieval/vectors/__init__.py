"""Finding the vectors nearest to a query: stores of vectors, and the FAISS files of an index.

`store` is the interface and `faiss_store` the only file that calls FAISS. `space_store` searches a space of an index,
`generations` writes its FAISS files, `tuning` measures how thoroughly they must be searched. May import
`vmr.retrieval.storage`, and nothing else of `vmr.retrieval`.
"""
