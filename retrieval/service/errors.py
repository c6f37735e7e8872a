"""The errors that requests meet, besides those of the library. `problems` says which status each has."""

from vmr.errors import VmrError


class NotFound(VmrError):  # noqa: N818 - named as the status
    """The index holds no such video or moment."""
