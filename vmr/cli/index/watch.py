"""`vmr-index watch`: keep an index up to date while its folders change."""

from jsonargparse.typing import PositiveFloat

from vmr.cli.common import Commands
from vmr.cli.index.windows import WindowOptions
from vmr.data.decoding.options import DecodeOptions
from vmr.retrieval.updating.plan import UpdateOptions


def watch(
    dir: list[str],
    out: str,
    encoder: list[str] | str | None = None,
    settle_s: PositiveFloat = 2.0,
    poll: bool = False,
    *,
    windows: WindowOptions,
    update: UpdateOptions,
    decode: DecodeOptions,
) -> None:
    """Bring an index up to date with folders, and again whenever something in them changes, until Ctrl-C.

    The index is locked only while it is updated. Ctrl-C and SIGTERM end it after the video in flight.

    Args:
        dir: folders of videos, watched with their subfolders
        out: folder of the index, which is made if there is none
        encoder: name or path of a model, or a list of them; default, those of the index, or `offline` for a new one
        settle_s: a file is read when it has not changed for so many seconds and no program writes it
        poll: look at all files again and again, for network file systems, which do not tell what changes
    """
    from vmr.retrieval.updating.watch import watch_index

    watch_index(
        dir,
        out,
        encoder,
        windows.checked(),
        decode=decode,
        update=update,
        settle_s=settle_s,
        poll=poll,
        say=lambda line: print(line, flush=True),
    )


COMMANDS: Commands = {"watch": (watch, ["dir"], "vmr-index watch videos --out index")}
