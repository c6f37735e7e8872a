"""Jobs that add videos to the index while it is served.

They are kept in a database, run one after the other in a process of their own, and go on after a restart. May import
retrieval and data, but no other part of the service than its options.
"""
