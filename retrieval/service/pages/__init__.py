"""The page on which people search and watch: what its address says, what it shows, and its templates filled.

The templates are in `templates` beside this package, and what browsers load is in `static`. May import what the API
answers with, and the storage of the index.
"""
