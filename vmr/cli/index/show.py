"""`vmr-index info`: what an index holds."""

from vmr.cli.common import Commands
from vmr.cli.output import print_failures, print_remarks, print_table


def info(index: str) -> None:
    """Print what an index holds and which encoder built it.

    Args:
        index: folder of the index
    """
    import vmr

    opened = vmr.open_index(index)
    info = opened.info
    window = "the whole video" if info.window_s is None else f"{info.window_s:g} s every {info.stride_s:g} s"
    others = ", ".join(f"{kind} {count}" for kind, count in info.other_files.items())
    rows = [
        ("encoder", info.encoder),
        ("fingerprint", info.fingerprint),
        ("dimensions", str(info.embed_dim)),
        ("videos", str(info.num_videos)),
        ("rows", str(info.num_windows)),
        ("one row", f"{window}, {info.num_frames} frames, read by {info.reader}"),
        ("read with damage", str(info.num_damaged)),
        ("left out", str(info.num_failures)),
        ("other files", others or "0"),
        ("folders", ", ".join(info.roots)),
        ("created", f"{info.created} by vmr {info.vmr_version}"),
    ]
    print_table(str(index), ("", ""), rows)
    print_failures(opened.failures)
    print_remarks(opened.remarks)


COMMANDS: Commands = {"info": (info, ["index"], "vmr-index info index")}
