"""Pictures and videos for a browser, made from files that the index holds.

Files are decoded in processes of their own, and what is made is kept in a bounded cache. May import data and
retrieval, but no other part of the service than its options and processes.
"""
