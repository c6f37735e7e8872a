"""Bringing an index up to date with the files on the disk, as make does.

`listing` says which files there are, `plan` compares them with the rows of the index, `update` does the work or takes
videos out, `watch` does it again and again, and `estimate` says what it will cost. May import vmr.retrieval, its
storage and its FAISS files, decoding, discovery and the catalogue of models; torch only while videos are embedded.
"""
