"""What an update of an index did."""

from dataclasses import dataclass, field

from vmr.retrieval.results import Failure, VideoRemark


@dataclass
class Update:
    """What an update did. All paths are absolute.

    Attributes:
        embedded: videos that were decoded and put into the index, or given vectors in a further space, or tokens.
        renamed: old and new path of videos that were moved.
        copied: path of a video, and the further path at which its content was found.
        refreshed: videos that were read, and whose content had not changed.
        removed: videos that were taken out.
        kept: videos whose file is gone, which stay in the index.
        unchanged: videos that were left as they are.
        failed: files that could not be read, and folders that could not be listed.
        failed_before: files that could not be read earlier and have not changed since; they were not tried again.
        remarks: what was noticed about the videos that were embedded.
    """

    embedded: list[str] = field(default_factory=list)
    renamed: list[tuple[str, str]] = field(default_factory=list)
    copied: list[tuple[str, str]] = field(default_factory=list)
    refreshed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    failed_before: list[Failure] = field(default_factory=list)
    remarks: list[VideoRemark] = field(default_factory=list)
