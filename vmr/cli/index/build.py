"""`vmr-index build`: make an index of videos."""

import sys

from jsonargparse.typing import PositiveFloat

from vmr.cli.common import Commands
from vmr.cli.output import print_failures, print_remarks
from vmr.data.decoding.options import DecodeOptions
from vmr.data.discovery.contents import describe_others

LEFT_OUT = 3
"""The exit status of `vmr-index build --fail-on-skip` if a video was left out."""


def build(
    dir: str,
    out: str,
    encoder: str = "offline",
    window: PositiveFloat | None = 8.0,
    stride: PositiveFloat | None = None,
    overwrite: bool = False,
    fail_on_skip: bool = False,
    *,
    decode: DecodeOptions,
) -> None:
    """Embed every video under a folder, window by window, and write an index.

    Args:
        dir: folder of videos, searched with its subfolders
        out: folder of the index to write
        encoder: name or path of a model; vmr-info lists them
        window: seconds that one row of the index covers; with null, each whole video is one row
        stride: seconds from the start of one window to the start of the next; default, half a window
        overwrite: replace an index that `out` already holds
        fail_on_skip: exit with status 3 if a video was left out; the index is written all the same
    """
    import vmr

    index = vmr.build_index(
        dir,
        out,
        encoder,
        window_s=window,
        stride_s=stride,
        decode=decode,
        overwrite=overwrite,
        progress=True,
    )
    info = index.info
    print_failures(index.failures)
    print_remarks(index.remarks)
    print(f'next: vmr-search {out} "a sentence"')
    counts = [
        f"{len(index)} rows of {info.num_videos} videos",
        f"{info.num_damaged} read with damage" if info.num_damaged else "",
        f"{info.num_failures} left out",
        describe_others(info.other_files),
    ]
    print(f"{out}: {', '.join(filter(None, counts))}")
    if fail_on_skip and info.num_failures:
        sys.exit(LEFT_OUT)


COMMANDS: Commands = {"build": (build, ["dir"], "vmr-index build videos --out index --window 8 --stride 4")}
