"""`vmr-index info`: what an index holds."""

from vmr.cli.common import Commands
from vmr.cli.output import print_failures, print_remarks, print_table


def info(index: str) -> None:
    """Print what an index holds and which encoder built it.

    Args:
        index: folder of the index
    """
    import vmr

    manifest = vmr.open_index(index).manifest
    window = (
        "the whole video" if manifest.window_s is None else f"{manifest.window_s:g} s every {manifest.stride_s:g} s"
    )
    others = ", ".join(f"{kind} {count}" for kind, count in manifest.other_files.items())
    rows = [
        ("encoder", manifest.encoder),
        ("fingerprint", manifest.fingerprint),
        ("dimensions", str(manifest.embed_dim)),
        ("videos", str(manifest.num_videos)),
        ("rows", str(len(manifest.rows))),
        ("one row", f"{window}, {manifest.num_frames} frames, read by {manifest.reader}"),
        ("read with damage", str(manifest.num_damaged)),
        ("left out", str(len(manifest.failures))),
        ("other files", others or "0"),
        ("folder", manifest.root),
        ("created", f"{manifest.created} by vmr {manifest.vmr_version}"),
    ]
    print_table(str(index), ("", ""), rows)
    print_failures(manifest.failures, manifest.root)
    print_remarks(manifest.remarks, manifest.root)


COMMANDS: Commands = {"info": (info, ["index"], "vmr-index info index")}
