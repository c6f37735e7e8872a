"""The threads in which the index is searched and read, so that one slow request holds up no other.

Holds: `lane`, a thread with a queue, and `reopened`, an index that is opened again when it was replaced.
May import: the open index, its storage, and the errors of the service.
"""
