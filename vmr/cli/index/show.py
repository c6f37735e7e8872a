"""`vmr-index info` and `list`: what an index holds."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from itertools import groupby
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmr.cli.common import Commands
from vmr.cli.output import clock, print_failures, print_remarks, print_table
from vmr.errors import VmrError

if TYPE_CHECKING:
    from vmr.retrieval.info import IndexInfo
    from vmr.retrieval.storage.records import Video
    from vmr.retrieval.storage.snapshot import Snapshot
    from vmr.retrieval.storage.where import Where


def info(index: str, json: bool = False) -> None:
    """Print what an index holds and which encoder built it.

    Args:
        index: folder of the index
        json: print one JSON object
    """
    import vmr
    from vmr.memory import format_bytes

    opened = vmr.open_index(index)
    info = opened.info
    if json:
        print(dumps(asdict(info), indent=1))
        return
    others = ", ".join(f"{kind} {count}" for kind, count in info.other_files.items())
    rows = [
        ("encoder", info.encoder),
        ("fingerprint", info.fingerprint),
        ("dimensions", f"{info.embed_dim}, as {info.dtype}"),
        ("videos", str(info.num_videos)),
        ("rows", str(info.num_windows)),
        ("one row", f"{_rows_in_words(info)}, {info.num_frames} frames, read by {info.reader}"),
        ("frames", _frames_in_words(info)),
        ("read with damage", str(info.num_damaged)),
        ("left out", str(info.num_failures)),
        ("other files", others or "0"),
        ("folders", ", ".join(info.roots)),
        ("spaces", ", ".join(info.spaces)),
        ("searched by", info.kind),
        ("nothing close", info.nothing_close),
        ("tokens kept", f"of {info.num_tokens} videos, {format_bytes(info.tokens_bytes)}" if info.num_tokens else "0"),
        ("created", f"{info.created} by vmr {info.vmr_version}"),
    ]
    print_table(str(index), ("", ""), rows)
    print_failures(opened.failures)
    print_remarks(opened.remarks)


def _rows_in_words(info: "IndexInfo") -> str:
    """How videos are cut into rows."""
    if info.window_s is None:
        return "the whole video"
    if info.segments == "shots":
        window = f"a shot of at most {info.window_s:g} s"
    else:
        window = f"{info.window_s:g} s every {info.stride_s:g} s"
    return f"{window} and the whole video" if info.whole_video else window


def _frames_in_words(info: "IndexInfo") -> str:
    """Which frames of a row the encoder is given."""
    which = "key frames only" if info.keyframes else "any"
    return f"{which}, those that differ by less than {info.skip_still:g} once" if info.skip_still else which


def list_(index: str, json: bool = False, failures: bool = False, where: str | None = None) -> None:
    """Print the videos of an index.

    Args:
        index: folder of the index
        json: print one JSON object with all videos, their windows, and the files that were left out
        failures: print the files that were left out instead of the videos
        where: only the videos that an expression selects, such as 'size > 1 GB or meta.camera = "cam1"'
    """
    from vmr.retrieval.legacy import open_reader
    from vmr.retrieval.storage.where import Where

    if failures and where is not None:
        raise VmrError("--where selects videos, not files that were left out: leave --failures out")
    condition = None if where is None else Where.parse(where)

    with closing(open_reader(Path(index))) as reader, reader.snapshot() as snapshot:
        if json:
            _print_json(snapshot, failures, condition)
        elif failures:
            print_table(index, ("left out", "reason"), [(each.file, each.reason) for each in snapshot.failures()])
        else:
            print_table(index, ("length", "size", "rows", "video"), map(_row, snapshot.videos(condition)))


def _row(video: "Video") -> tuple[str, str, str, str]:
    """A video of the table of `list`."""
    size = f"{video.width}x{video.height}" if video.width else ""  # indexes of earlier versions do not know it
    return clock(video.duration_s, tenths=True), size, str(video.num_windows), video.file


def _print_json(snapshot: "Snapshot", only_failures: bool, where: "Where | None") -> None:
    """Print an object line by line: an index may hold more than should be in memory at once."""
    print("{")
    if not only_failures:
        print(' "videos": [')
        _print_items(_videos(snapshot, where))
        print(" ],")
    print(' "failures": [')
    _print_items({"video": each.file, "reason": each.reason} for each in snapshot.failures())
    print(" ]\n}")


def _videos(snapshot: "Snapshot", where: "Where | None") -> Iterator[dict[str, Any]]:
    chosen = None if where is None else snapshot.video_ids(where)
    windows = groupby(snapshot.windows(chosen), lambda window: window.file)  # in the order of the videos
    for video, (_, own) in zip(snapshot.videos(where), windows, strict=True):
        yield {
            "video": video.file,
            "size": video.state.size,
            "sha256": video.content_hash.hex() or None,
            "duration_s": video.duration_s,
            "width": video.width or None,
            "height": video.height or None,
            "remarks": [{"kind": remark.kind, "text": remark.text} for remark in video.remarks],
            "metadata": dict(video.metadata),
            "windows": [{"id": one.id, "start_s": one.start_s, "end_s": one.end_s} for one in own],
        }


def _print_items(items: Iterator[dict[str, Any]]) -> None:
    before = ""
    for item in items:
        print(f"{before}  {dumps(item)}", end="")
        before = ",\n"
    print()


COMMANDS: Commands = {
    "info": (info, ["index"], "vmr-index info index"),
    "list": (list_, ["index"], "vmr-index list index --json"),
}
