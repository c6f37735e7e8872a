"""Why a job is not taken."""

from vmr.errors import VmrError


class RefusedError(VmrError):
    """A request about jobs that is refused, with the status of HTTP that says so."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
