"""`vmr-info`: what this installation can do here."""

from collections.abc import Sequence

from vmr.cli.common import run
from vmr.cli.output import print_table


def info() -> None:
    """Say which backends the selective scan has on this machine, and why the others are missing."""
    import torch

    from vmr.ops import available_backends
    from vmr.version import __version__

    versions = [("vmr", __version__), ("torch", f"{torch.__version__}, {torch.get_num_threads()} threads")]
    backends = [(f"backend {name}", state) for name, state in available_backends().items()]
    print_table("vmr on this machine", ("", ""), [*versions, *backends])


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    run("vmr-info", info, [], "vmr-info", argv)
