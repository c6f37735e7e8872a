"""What has to be done to bring an index up to date. Files that have not changed are not opened."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vmr.files import sha256_of
from vmr.memory import parse_bytes
from vmr.retrieval.storage.records import FailedFile, FileState, Video
from vmr.retrieval.updating.listing import Listing


@dataclass(frozen=True)
class UpdateOptions:
    """How files are compared with an index, and brought into it.

    Attributes:
        keep_missing: keep videos whose file is gone.
        check_content: read every file to see whether it has changed, not only those whose size, time or inode differ.
        retry_failed: try files again that could not be read and have not changed since.
        memory: how much memory all processes may use together, such as 1GiB; None for no limit.

    Raises:
        VmrError: the memory is no amount of memory.
    """

    keep_missing: bool = False
    check_content: bool = False
    retry_failed: bool = False
    memory: str | None = None

    def __post_init__(self) -> None:
        if self.memory is not None:
            parse_bytes(self.memory)

    @property
    def memory_bytes(self) -> int | None:
        """The memory in bytes."""
        return None if self.memory is None else parse_bytes(self.memory)


@dataclass(frozen=True)
class Job:
    """A file whose content is to get into the index.

    Attributes:
        file: absolute path.
        state: when it was listed; None if it was not there.
        content_hash: SHA-256, if it was computed already.
    """

    file: str
    state: FileState | None
    content_hash: bytes | None = None


@dataclass
class Plan:
    """What is to be done with each file and each row of an index.

    Attributes:
        unchanged: videos to leave as they are.
        refreshed: videos whose content is the same, with the new state of their file.
        moved: videos whose content is at another path now.
        copied: videos whose content is at a further path now.
        gone: videos whose file is gone.
        kept: videos whose file is gone, which stay.
        jobs: files to embed: new ones and changed ones.
        failed_before: files that could not be read and have not changed since.
        forgotten: failures that are no longer true.
    """

    unchanged: list[Video] = field(default_factory=list)
    refreshed: list[tuple[Video, FileState]] = field(default_factory=list)
    moved: list[tuple[Video, Job]] = field(default_factory=list)
    copied: list[tuple[Video, Job]] = field(default_factory=list)
    gone: list[Video] = field(default_factory=list)
    kept: list[Video] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    failed_before: list[FailedFile] = field(default_factory=list)
    forgotten: list[FailedFile] = field(default_factory=list)


def content_hash(file: str) -> bytes | None:
    """Return the SHA-256 of a file; None if it cannot be read."""
    try:
        return bytes.fromhex(sha256_of(Path(file)))
    except OSError:
        return None


def make_plan(
    listing: Listing,
    videos: Sequence[Video],
    failures: Sequence[FailedFile] = (),
    update: UpdateOptions = UpdateOptions(),
    hash_of: Callable[[str], bytes | None] = content_hash,
    is_there: Callable[[str], bool] = os.path.lexists,
) -> Plan:
    """Compare files with an index.

    Args:
        listing: the files.
        videos: those of the index.
        failures: those of the index.
        update: how to compare.
        hash_of: the SHA-256 of a file; it is called only for files that may hold what the index knows.
        is_there: whether there is a file at a path.
    """
    plan = Plan()
    known = {video.file: video for video in videos}
    failed = {failure.file: failure for failure in failures}
    jobs: list[Job] = []
    loose: list[Video] = []  # their content is no longer at their path
    for file, state in listing.files.items():
        video, failure = known.get(file), failed.get(file)
        if video is not None and state is not None:
            job = _compare(video, state, plan, update, hash_of)
            if job is not None:
                jobs.append(job)
                loose.append(video)
            elif failure is not None and failure.state is None:
                plan.forgotten.append(failure)
        elif video is not None:
            plan.gone.append(video)
        elif failure is not None and _is_as_before(failure, state) and not update.retry_failed:
            plan.failed_before.append(failure)
        else:
            jobs.append(Job(file, state))
    plan.gone += [video for file, video in known.items() if file not in listing.files and listing.covers(file)]
    plan.forgotten += [each for file, each in failed.items() if file not in listing.files and listing.covers(file)]
    _match(plan, jobs, _Contents([*loose, *plan.gone], videos, update, is_there), hash_of)
    if update.keep_missing:
        plan.kept, plan.gone = plan.gone, []
    return plan


def _compare(
    video: Video, state: FileState, plan: Plan, update: UpdateOptions, hash_of: Callable[[str], bytes | None]
) -> Job | None:
    """Put a video among those that have not changed, or return the job of its file."""
    is_same, is_settled = video.state.is_same(state), video.state.is_settled
    if is_same and is_settled and not update.check_content:
        plan.unchanged.append(video)
        return None
    if state.size != video.state.size or not video.content_hash:
        return Job(video.file, state)
    found = hash_of(video.file)
    if found != video.content_hash:
        return Job(video.file, state, found)
    if is_same and is_settled:
        plan.unchanged.append(video)
    else:
        plan.refreshed.append((video, state))
    return None


def _is_as_before(failure: FailedFile, state: FileState | None) -> bool:
    before = failure.state
    return before is not None and state is not None and before.is_same(state) and before.is_settled


class _Contents:
    """Which videos hold a content.

    Args:
        loose: videos whose content is no longer at their path: each may be moved once.
        videos: all of the index.
        update: with `check_content`, size, time and inode say nothing.
        is_there: whether there is a file at a path.
    """

    def __init__(
        self, loose: Iterable[Video], videos: Iterable[Video], update: UpdateOptions, is_there: Callable[[str], bool]
    ) -> None:
        self._loose = {video.id for video in loose}
        self._taken: set[int] = set()
        self._is_there = is_there
        self._by_hash: dict[bytes, list[Video]] = defaultdict(list)
        self._by_key: dict[tuple[int, int, int], list[Video]] = defaultdict(list)
        self._sizes: set[int] = set()
        for video in videos:
            if video.content_hash:
                self._by_hash[video.content_hash].append(video)
                self._sizes.add(video.state.size)
            if video.state.is_settled and not update.check_content:
                self._by_key[video.state.key].append(video)

    def at(self, state: FileState) -> list[Video]:
        """Videos whose files had the size, time and inode of this one."""
        videos = self._by_key.get(state.key, [])
        # Below a folder that was not named a video that is not there may come back, unless its very file is here.
        self._loose |= {video.id for video in videos if not self._is_there(video.file)} - self._taken
        return videos

    def with_hash(self, job: Job) -> list[Video]:
        """Videos with the content of a job."""
        return self._by_hash.get(job.content_hash or b"", [])

    def take(self, videos: Sequence[Video], name: str) -> Video | None:
        """Take one of some videos that may be moved, the first with a name if there is one."""
        loose = [video for video in videos if video.id in self._loose]
        video = min(loose, key=lambda video: Path(video.path).name != name, default=None)
        if video is not None:
            self._loose.discard(video.id)
            self._taken.add(video.id)
        return video

    def may_hold(self, state: FileState) -> bool:
        """Whether a video has the size of a file."""
        return state.size in self._sizes


def _match(plan: Plan, jobs: Iterable[Job], contents: _Contents, hash_of: Callable[[str], bytes | None]) -> None:
    """Find the jobs whose content the index holds, at first those that need not be read."""
    unread = [job for job in jobs if job.state is None or not _place(plan, job, contents.at(job.state), contents)]
    for job in unread:
        if job.state is not None and job.content_hash is None and contents.may_hold(job.state):
            job = Job(job.file, job.state, hash_of(job.file))  # noqa: PLW2901
        if job.state is None or not _place(plan, job, contents.with_hash(job), contents):
            plan.jobs.append(job)
    placed = {video.id for video, _ in plan.moved}
    plan.gone = [video for video in plan.gone if video.id not in placed]


def _place(plan: Plan, job: Job, videos: Sequence[Video], contents: _Contents) -> bool:
    """Move one of some videos to the path of a job, or copy it if all of them are in their places."""
    video = contents.take(videos, Path(job.file).name)
    if video is not None:
        plan.moved.append((video, job))
    elif videos:
        plan.copied.append((videos[0], job))
    return bool(videos)
