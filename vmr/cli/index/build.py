"""`vmr-index build`, `add` and `remove`: the commands that change which videos an index holds."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse.typing import ClosedUnitInterval

from vmr.cli.common import Commands
from vmr.cli.index.estimate import print_estimate
from vmr.cli.index.exchange import give_metadata
from vmr.cli.index.windows import WindowOptions
from vmr.cli.output import print_failures, print_remarks
from vmr.data.decoding.options import DecodeOptions
from vmr.data.discovery.contents import describe_others
from vmr.errors import VmrError
from vmr.models.families.names import with_skip
from vmr.progress import printable
from vmr.retrieval.updating.hooks import Hooks
from vmr.retrieval.updating.plan import UpdateOptions
from vmr.retrieval.updating.spaces import VectorOptions

if TYPE_CHECKING:
    from vmr.models.encoder import Encoder
    from vmr.retrieval.segments import SegmentOptions
    from vmr.retrieval.updating.done import Update

LEFT_OUT = 3
"""The exit status of `vmr-index build --fail-on-skip` if a video was left out."""


def build(
    dir: list[str],
    out: str,
    encoder: list[str] | str | None = None,
    skip: ClosedUnitInterval | None = None,
    overwrite: bool = False,
    fail_on_skip: bool = False,
    estimate: bool = False,
    meta: str | None = None,
    *,
    windows: WindowOptions,
    vectors: VectorOptions,
    update: UpdateOptions,
    decode: DecodeOptions,
) -> None:
    """Bring an index up to date with every video under some folders; make it if there is none.

    Files that have not changed are not opened. After an interrupt or a kill the same command goes on.

    Args:
        dir: folders of videos, searched with their subfolders; files are taken whatever their names
        out: folder of the index
        encoder: name or path of a model, or a list of them; default, those of the index, or `offline` for a new one.
            vmr-info lists them
        skip: leave out patches that differ from earlier ones by no more than this; default, as the model was saved
        overwrite: start anew, also with another encoder or other windows; the old index stays until the first video is
            embedded
        fail_on_skip: exit with status 3 if a video was left out; the index is written all the same
        estimate: measure a sample of the videos, say what time, memory and disk the index takes, and write nothing
        meta: a table of metadata that the videos are given afterwards, as by `vmr-index meta`
    """
    from vmr.retrieval.updating.update import update_index
    from vmr.retrieval.upkeep.metadata import read_table

    if meta is not None:
        read_table(Path(meta))  # what is wrong with it is said before the work, and not after it
    encoder = _with_skip(encoder, skip)
    if estimate:
        print_estimate(dir, out, encoder, overwrite=overwrite, windows=windows, update=update, decode=decode)
        return
    segments = windows.checked()
    models: list[Encoder] | list[str] | str | None = encoder
    if vectors.keep_tokens:
        models = _with_tokens(None if overwrite else Path(out), encoder, segments, decode)
    hooks = Hooks(progress=True)
    with _interrupt_told():
        done = update_index(
            dir, out, models, segments, vectors=vectors, decode=decode, overwrite=overwrite, update=update, hooks=hooks
        )
    _print_update(done)
    if meta is not None:
        give_metadata(out, meta)
    print(f'next: vmr-search {out} "a sentence"')
    _print_counts(out, fail_on_skip)


def _with_skip(encoder: list[str] | str | None, skip: float | None) -> list[str] | str | None:
    """The names of models that leave out repetitions, which an index keeps, such as NAME@skip=0.02."""
    if skip is None:
        return encoder
    if not encoder:
        raise VmrError("--skip needs --encoder: a model of an index keeps what it was built with")
    return with_skip(encoder, skip) if isinstance(encoder, str) else [with_skip(name, skip) for name in encoder]


def _with_tokens(
    index: Path | None, encoder: list[str] | str | None, segments: "SegmentOptions", decode: DecodeOptions
) -> "list[Encoder]":
    """Load the models whose tokens are to be kept, and say how much room they take."""
    from vmr.retrieval.updating.keeping import sizes_in_words
    from vmr.retrieval.updating.update import load_encoders

    models = load_encoders(index, encoder, segments, reader=decode.reader, progress=True)
    if sizes := sizes_in_words(models, segments):
        print(sizes)
    return models


def add(
    index: str,
    path: list[str],
    encoder: list[str] | str | None = None,
    fail_on_skip: bool = False,
    *,
    update: UpdateOptions,
    decode: DecodeOptions,
) -> None:
    """Add videos to an index, or embed them again if they have changed.

    Args:
        index: folder of the index
        path: videos, and folders of videos
        encoder: name or path of a further model; default, those of the index
        fail_on_skip: exit with status 3 if a video was left out; the index is written all the same
    """
    from vmr.retrieval.updating.update import add_videos

    with _interrupt_told():
        done = add_videos(index, path, encoder, decode=decode, update=update, progress=True)
    _print_update(done)
    _print_counts(index, fail_on_skip)


def remove(index: str, pattern: list[str] | None = None, where: str | None = None) -> None:
    """Take videos out of an index; their files stay.

    Args:
        index: folder of the index
        pattern: paths of videos or folders, or patterns such as "cam1/*.mp4" for paths relative to the index's folders
        where: the videos that an expression selects, such as 'folder = "cam1" and date < 2026-11'
    """
    from vmr.retrieval.updating.update import remove_videos

    _print_update(remove_videos(index, pattern or (), where))
    _print_counts(index)


@contextmanager
def _interrupt_told() -> Iterator[None]:
    """Say what an interrupted update has done."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if interrupt.args:
            print(printable(str(interrupt)), file=sys.stderr)
        raise


def _print_update(done: "Update") -> None:
    """Print what an update did: names of what is not as expected on standard error, and counts."""
    print_failures(done.failed)
    if done.failed_before:
        print(
            f"left out as before: {len(done.failed_before)}, which have not changed: --retry-failed tries them again",
            file=sys.stderr,
        )
    print_remarks(done.remarks)
    counts: dict[str, Sequence[object]] = {
        "embedded": done.embedded,
        "renamed": done.renamed,
        "copied": done.copied,
        "read and unchanged": done.refreshed,
        "removed": done.removed,
        "missing but kept": done.kept,
        "unchanged": done.unchanged,
    }
    print(", ".join(f"{len(names)} {what}" for what, names in counts.items() if names) or "nothing to do")


def _print_counts(folder: str, fail_on_skip: bool = False) -> None:
    """Print how much an index holds; exit with status 3 if it lacks something and that is asked for."""
    from vmr.retrieval.storage.reader import IndexReader

    with IndexReader(Path(folder)) as reader, reader.snapshot() as snapshot:
        damaged, failures = snapshot.num_damaged(), snapshot.num_failures()
        counts = [
            f"{snapshot.num_windows()} rows of {snapshot.num_videos()} videos",
            f"{damaged} read with damage" if damaged else "",
            f"{failures} left out",
            describe_others(snapshot.other_files()),
        ]
    print(f"{folder}: {', '.join(filter(None, counts))}")
    if fail_on_skip and failures:
        sys.exit(LEFT_OUT)


COMMANDS: Commands = {
    "build": (build, ["dir"], "vmr-index build videos --out index --window 8 --stride 4"),
    "add": (add, ["index", "path"], "vmr-index add index more/clip.mp4"),
    "remove": (remove, ["index", "pattern"], 'vmr-index remove index "cam1/*.mp4"'),
}
