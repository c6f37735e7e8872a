"""Pictures and clips that a request brings along: read within limits, decoded in processes of their own.

May import data, but no other part of the service than its options and processes.
"""
