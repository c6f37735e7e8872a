"""Doing what a plan says: each video is committed as soon as it is embedded."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace

from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.worker_process import DecodeFailure
from vmr.data.discovery.probe import probe_durations
from vmr.errors import VmrError
from vmr.models.encoder import Encoder
from vmr.progress import VideoProgress
from vmr.retrieval.embed import At, embed_each
from vmr.retrieval.embedding.pipeline import EmbeddedVideo
from vmr.retrieval.results import Failure, VideoRemark
from vmr.retrieval.segments import SegmentOptions
from vmr.retrieval.storage.changes import Changes
from vmr.retrieval.storage.records import FailedFile, FileState, NewVideo, Video
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.updating.done import Update
from vmr.retrieval.updating.folder import UpdatedFolder
from vmr.retrieval.updating.hooks import Hooks
from vmr.retrieval.updating.keeping import KeptTokens
from vmr.retrieval.updating.listing import Listing, Roots
from vmr.retrieval.updating.plan import Job, Plan, UpdateOptions, content_hash, make_plan
from vmr.retrieval.updating.spaces import Spaces, frames_of
from vmr.retrieval.vectors.generations import make_files
from vmr.signals import signals_held_back

Put = Callable[[Job, Sequence[str], Sequence[EmbeddedVideo]], None]

_ROWS_PER_FILE = 20_000  # so often a long update makes its rows fast to search

_CHANGED = "changed while it was read: it is tried again at the next update"


class Work:
    """An update under way.

    Args:
        folder: the folder of the index, locked.
        listing: the files.
        spaces: the spaces to fill.
        segments: how videos are cut, and which frames are taken.
        update: how files are compared with the index.
        decode: how videos are decoded.
        tokens: those that the index keeps.
        hooks: what to ask and to tell meanwhile.
    """

    def __init__(
        self,
        folder: UpdatedFolder,
        listing: Listing,
        spaces: Spaces,
        segments: SegmentOptions,
        update: UpdateOptions,
        decode: DecodeOptions,
        *,
        tokens: KeptTokens,
        hooks: Hooks,
    ) -> None:
        self._folder, self._listing, self._spaces, self._segments = folder, listing, spaces, segments
        self._update, self._decode, self._tokens, self._hooks = update, decode, tokens, hooks
        self.done = Update()
        self._waiting: list[Callable[[Changes], object]] = []  # for the first commit of a fresh index
        self._known: dict[str, Video] = {}
        self._failures: dict[str, FailedFile] = {}
        self._roots = Roots((), listing)
        self._num_new_rows = 0

    def run(self) -> Update:
        """Do everything.

        Raises:
            VmrError: none of the files of a fresh index can be read; or see `vmr.build_index`.
        """
        if not self._folder.is_fresh:
            with self._folder.reader.snapshot() as snapshot:
                self._known = {video.file: video for video in snapshot.videos()}
                self._failures = {failure.file: failure for failure in snapshot.failures()}
                self._roots = Roots(snapshot.roots().values(), self._listing)
        plan = make_plan(self._listing, list(self._known.values()), list(self._failures.values()), self._update)
        self.done.unchanged = [video.file for video in plan.unchanged]
        self.done.kept = [video.file for video in plan.kept]
        self.done.failed_before = _told(plan.failed_before)
        self._move_and_refresh(plan)
        self._remove(plan)
        first, *others = self._spaces.groups()
        self._embed(plan.jobs, first, self._put)
        if self._folder.is_fresh and self._hooks.may_be_empty:
            self._commit_with_spaces(lambda changes, ids: None)
        if self._folder.is_fresh:
            reasons = {failure.video: failure.reason for failure in self.done.failed}
            first_file = plan.jobs[0].file
            raise VmrError(f"none of {len(plan.jobs)} videos can be read, first: {first_file}: {reasons[first_file]}")
        for group in (first, *others):
            for names, jobs in self._lacking(group).items():
                self._embed(jobs, names, self._add)
        return self.done

    def _commit(self, change: Callable[[Changes], object]) -> None:
        """Commit a change; nothing but a video may begin a fresh index, so other changes wait for one."""
        if self._folder.is_fresh:
            self._waiting.append(change)
        else:
            self._folder.commit(change)

    def _move_and_refresh(self, plan: Plan) -> None:
        if not (plan.moved or plan.copied or plan.refreshed):
            return
        with self._folder.reader.snapshot() as before:  # which the changes do not change

            def change(changes: Changes) -> None:
                for video, state in plan.refreshed:
                    changes.set_state(video.id, state)
                self._move(changes, plan.moved)
                for video, job in plan.copied:
                    changes.put_video(self._copy(before, video, job))

            self._folder.commit(change)
        self.done.refreshed = [video.file for video, _ in plan.refreshed]
        self.done.renamed = [(video.file, job.file) for video, job in plan.moved]
        self.done.copied = [(video.file, job.file) for video, job in plan.copied]
        for what, pairs in (("renamed", self.done.renamed), ("copied", self.done.copied)):
            for old, new in pairs:
                self._hooks.tell(f"{what}: {old} -> {new}")

    def _move(self, changes: Changes, moved: Sequence[tuple[Video, Job]]) -> None:
        """Give videos new paths, which may be those of other videos that are moved or have lost their content."""
        moving = {video.id for video, _ in moved}
        in_the_way = [self._known[job.file] for _, job in moved if job.file in self._known]
        for video in in_the_way:
            if video.id in moving:
                changes.move_video(video.id, video.root, f".moving/{video.id}", video.state)
            else:
                changes.remove_video(video.id)
        for video, job in moved:
            assert job.state is not None
            changes.move_video(video.id, *self._place(job.file), job.state)

    def _copy(self, snapshot: Snapshot, video: Video, job: Job) -> NewVideo:
        """Make a video of another one, which has the same content."""
        assert job.state is not None
        root, path = self._place(job.file)
        vectors = {
            space.id: block.vectors
            for space in snapshot.spaces()
            for block in snapshot.blocks_of(space.id, [video.first_window])
        }
        return NewVideo(
            root=root,
            path=path,
            content_hash=job.content_hash or video.content_hash,
            state=job.state,
            duration_s=video.duration_s,
            width=video.width,
            height=video.height,
            remarks=video.remarks,
            spans=tuple((window.start_s, window.end_s) for window in snapshot.windows([video.id])),
            vectors=vectors,
        )

    def _remove(self, plan: Plan) -> None:
        """Remove what is gone, and note what is in the folders besides videos."""
        failures = [FailedFile(*self._place(each.path), None, each.reason) for each in self._listing.failures]
        new = [each for each in failures if self._failures.get(each.file) != each]
        others = {
            root: counts
            for root, counts in self._listing.other_files.items()
            if root in self._roots and (self._folder.is_fresh or counts != self._other_files(root))
        }
        if plan.gone or plan.forgotten or new or others:

            def change(changes: Changes) -> None:
                for video in plan.gone:
                    changes.remove_video(video.id)
                for failure in plan.forgotten:
                    changes.remove_failure(failure.root, failure.path)
                for failure in new:
                    changes.put_failure(failure)
                for root, counts in others.items():
                    changes.set_other_files(root, counts)

            self._commit(change)
        self.done.removed = [video.file for video in plan.gone]
        self.done.failed += _told(failures)
        for each in (*self.done.failed_before, *_told(failures)):
            self._hooks.fail(each)
        for video in plan.gone:
            self._hooks.tell(f"removed: {video.file}")
        for failure in new:
            self._hooks.tell(f"left out: {failure.file}: {failure.reason}")

    def _other_files(self, root: str) -> Mapping[str, int]:
        with self._folder.reader.snapshot() as snapshot:
            return snapshot.other_files(root)

    def _lacking(self, group: Sequence[str]) -> dict[tuple[str, ...], list[Job]]:
        """Names of spaces of a group -> the files that were listed and lack vectors in these spaces."""
        ids = self._spaces.ids()
        with self._folder.reader.snapshot() as snapshot:
            have: dict[str, set[int]] = {}
            total = snapshot.num_windows()
            for name in group:
                is_new = ids[name] == 0
                if is_new or snapshot.num_windows(ids[name]) < total:
                    have[name] = set() if is_new else set(snapshot.video_ranges(ids[name])[:, 0].tolist())
            videos = list(snapshot.videos()) if have or self._tokens.is_asked else []
        jobs: dict[tuple[str, ...], list[Job]] = {}
        failed = {failure.video for failure in (*self.done.failed, *self.done.failed_before)}
        for video in videos:
            without = {name for name, windows in have.items() if video.first_window not in windows}
            names = tuple(name for name in group if name in without or self._tokens.lacks(name, video))
            state = self._listing.files.get(video.file)
            if names and state is not None and state.is_same(video.state) and not self._is_hopeless(video.file, failed):
                jobs.setdefault(names, []).append(Job(video.file, state, video.content_hash))
        return jobs

    def _is_hopeless(self, file: str, failed: set[str]) -> bool:
        """Whether a file failed in this update, or earlier with the same content."""
        before = self._failures.get(file)
        is_as_before = before is not None and before.state is not None and before.state == self._listing.files[file]
        return file in failed or (is_as_before and not self._update.retry_failed)

    def _embed(self, jobs: Sequence[Job], names: Sequence[str], put: Put) -> None:
        """Decode files and embed them in some spaces. A file that changes meanwhile is tried once more."""
        if not jobs:
            return
        encoders = [self._spaces.encoder(name) for name in names]
        files = [job.file for job in jobs]
        is_followed = self._hooks.progress or self._hooks.follow is not None
        lengths = probe_durations(files, self._decode) if is_followed else ()
        with VideoProgress(self._hooks.progress, follow=self._hooks.follow) as progress:
            progress.start(dict(zip(files, lengths, strict=False)))
            for is_last in (False, True):
                again = []
                for job, end in self._embedded(jobs, encoders, progress.at):
                    seconds = 0.0 if isinstance(end, DecodeFailure) else max(end_s for _, end_s in end[0].spans)
                    found = None if isinstance(end, DecodeFailure) else job.content_hash or content_hash(job.file)
                    if isinstance(end, DecodeFailure):
                        self._fail(job, end.reason, is_replaced=put == self._put)
                    elif found is not None and _is_still(job):
                        put(replace(job, content_hash=found), names, end)
                    elif is_last:
                        self._fail(replace(job, state=None), _CHANGED)
                    else:
                        again.append(Job(job.file, FileState.of(job.file)))
                        continue
                    progress.video_done(job.file, seconds)
                jobs = again

    def _embedded(
        self, jobs: Iterable[Job], encoders: Sequence[Encoder], at: At
    ) -> Iterator[tuple[Job, tuple[EmbeddedVideo, ...] | DecodeFailure]]:
        by_file = {job.file: job for job in jobs}
        if not by_file:
            return
        frames, segmenter = frames_of(encoders[0], self._segments), self._segments.segmenter()
        ends = embed_each(
            by_file,
            encoders,
            frames,
            segmenter,
            decode=self._decode,
            at=at,
            tokens_in=self._tokens.spool_in,
            memory_bytes=self._update.memory_bytes,
        )
        with closing(ends):
            for end in ends:
                path = end.path if isinstance(end, DecodeFailure) else end[0].path
                yield by_file[path], end

    def _put(self, job: Job, names: Sequence[str], videos: Sequence[EmbeddedVideo]) -> None:
        """Commit a new or changed video."""
        assert job.state is not None and job.content_hash is not None
        root, path = self._place(job.file)
        about, state, found = videos[0], job.state, job.content_hash
        self._tokens.put(found, names, videos)

        def change(changes: Changes, ids: Mapping[str, int]) -> None:
            changes.put_video(
                NewVideo(
                    root=root,
                    path=path,
                    content_hash=found,
                    state=state,
                    duration_s=max(end_s for _, end_s in about.spans),
                    remarks=about.remarks,
                    width=about.width,
                    height=about.height,
                    spans=about.spans,
                    vectors={ids[name]: video.vectors for name, video in zip(names, videos, strict=True)},
                )
            )

        self._commit_vectors(change, about)

    def _add(self, job: Job, names: Sequence[str], videos: Sequence[EmbeddedVideo]) -> None:
        """Commit the vectors of a video in spaces that lack it, and keep its tokens."""
        ids = self._spaces.ids()
        with self._folder.reader.snapshot() as snapshot:
            video = snapshot.video_at(job.file)
            assert video is not None
            spans = tuple((window.start_s, window.end_s) for window in snapshot.windows([video.id]))
            has = {name for name in names if ids[name] and any(snapshot.blocks_of(ids[name], [video.first_window]))}
        if spans != videos[0].spans:
            self._fail(job, "is cut into other windows than before: remove it from the index and add it again")
            return
        self._tokens.put(video.content_hash, names, videos)

        def change(changes: Changes, ids: Mapping[str, int]) -> None:
            for name, each in zip(names, videos, strict=True):
                if name not in has:
                    changes.add_vectors(video.id, ids[name], each.vectors)
            changes.remove_failure(video.root, video.path)

        self._commit_vectors(change, videos[0])

    def _commit_vectors(self, change: Callable[[Changes, Mapping[str, int]], None], video: EmbeddedVideo) -> None:
        """Commit a change that brings vectors of a video."""

        def whole(changes: Changes, ids: Mapping[str, int]) -> None:
            change(changes, ids)
            self.done.embedded.append(video.path)
            self.done.remarks += [VideoRemark(video.path, each.kind, each.text) for each in video.remarks]

        with signals_held_back():  # what is committed is told
            self._commit_with_spaces(whole)
            self._hooks.embed(video.path)
        self._num_new_rows += len(video.spans)
        if self._num_new_rows >= _ROWS_PER_FILE:
            make_files(self._folder.writer)
            self._num_new_rows = 0
        self._hooks.tell(f"embedded: {video.path}{''.join(f', {each.text}' for each in video.remarks)}")

    def _commit_with_spaces(self, change: Callable[[Changes, Mapping[str, int]], None]) -> None:
        """Commit a change that needs the spaces, which are added if they are new; what has waited goes first."""
        new: dict[str, int] = {}

        def whole(changes: Changes) -> None:
            for waiting in self._waiting:
                waiting(changes)
            new.update(self._spaces.add_new(changes))
            change(changes, self._spaces.ids() | new)

        self._folder.commit(whole)
        self._waiting.clear()
        self._spaces.added(new)

    def _fail(self, job: Job, reason: str, *, is_replaced: bool = False) -> None:
        """Note that a file cannot be read; what the index holds of earlier content is removed if it is replaced."""
        state = job.state if _is_still(job) else None  # without a state it is tried again
        if self._hooks.may_be_empty and not os.path.lexists(job.file):
            return  # who watches will see that it is gone
        failure = FailedFile(*self._place(job.file), state, reason)

        def change(changes: Changes) -> None:
            old = changes.snapshot.video_at(job.file)
            if old is not None and state is not None and is_replaced:
                changes.remove_video(old.id)
            changes.put_failure(failure)

        self.done.failed += _told([failure])
        self._commit(change)
        self._hooks.fail(Failure(failure.file, reason))
        before = self._failures.get(job.file)
        if before is None or before.state is not None or before.reason != reason:  # else it is tried at each update
            self._hooks.tell(f"left out: {job.file}: {reason}")

    def _place(self, file: str) -> tuple[str, str]:
        """The root of a file and its path below it, as the index has them if it knows the file."""
        known = self._known.get(file) or self._failures.get(file)
        return self._roots.place(file) if known is None else (known.root, known.path)


def _is_still(job: Job) -> bool:
    """Whether a file is as it was when it was listed."""
    now = FileState.of(job.file)
    return job.state is not None and now is not None and now.is_same(job.state)


def _told(failures: Iterable[FailedFile]) -> list[Failure]:
    return [Failure(failure.file, failure.reason) for failure in failures]
