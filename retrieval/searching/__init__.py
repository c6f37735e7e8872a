"""From a query to moments: what is asked for, which windows answer it, and which of them show the same.

The modules may import vmr.retrieval.storage, vmr.retrieval.vectors and the results of vmr.retrieval. What an open index
is lies in vmr.retrieval.index, which calls `Searcher`.
"""
