"""`vmr-serve`: an index as an HTTP API and as a page on which people search and watch.

`app` puts it together; `routes` answer requests, `guard` refuses those that are not allowed, `media` makes pictures and
videos, `jobs` add videos. May import retrieval, models and data; only commands import it.
"""
