"""The errors that vmr raises on purpose. Each is one line that says what is wrong and what to do."""


class VmrError(Exception):
    """Base of every error that a user can cause or repair. Commands print it as one line and exit with status 2."""


class VideoError(VmrError):
    """A video that cannot be read. `path` is the file; `reason` says why, without the path."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason


class ModelError(VmrError):
    """A model that is unknown, whose weights cannot be reached, or whose weights do not fit."""


class IndexFileError(VmrError):
    """An index that is absent, half-written, damaged, or made by another encoder."""


class IndexBusyError(IndexFileError):
    """An index that another process is writing."""


class AnnotationError(VmrError):
    """An annotation file or data set folder that does not follow its format."""


class MissingExtraError(VmrError):
    """A package that belongs to an optional extra is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"needs {package}: pip install 'vmr[{extra}]'")
