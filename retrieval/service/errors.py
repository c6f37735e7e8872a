"""The errors that requests meet, besides those of the library. `app` says which status each has."""

from vmr.errors import VmrError


class NotFound(VmrError):
    """The index holds no such video or moment."""
