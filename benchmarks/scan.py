"""Time and memory of the selective scan beside its peers: `python -m benchmarks.scan [--quick] [--json FILE]`."""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.common import Measurement, Work, environment, measure_in_turns
from benchmarks.scan_peers import PEERS, TAKE_CHANNELS_FIRST, channels_first, random_inputs
from vmr.ops import cpu_kernel

NUM_STATES = 16
EXPONENTIALS = "exponentials alone"
CACHED = 4096  # the numbers of the exponential loop, 16 KiB, which is repeated over them


@dataclass(frozen=True)
class Case:
    """One table: a shape, which passes are timed, and the peers.

    Attributes:
        batch: B, number of sequences.
        length: L, steps of a sequence.
        channels: D, channels of a sequence.
        backward: whether the backward pass is timed too.
        peers: names in `PEERS`, ours first.
        heavy: whether --quick leaves the case out.
    """

    batch: int
    length: int
    channels: int
    backward: bool
    peers: tuple[str, ...]
    heavy: bool = False

    @property
    def title(self) -> str:
        """The title of the table."""
        passes = "forward + backward" if self.backward else "forward"
        return f"{passes}, B {self.batch} x L {self.length} x D {self.channels}, N {NUM_STATES}, float32"

    @property
    def output_mb(self) -> float:
        """The size of the result, which every scan needs."""
        return self.batch * self.length * self.channels * 4 / 2**20


EVERYONE = (
    "published reference loop",
    "plain PyTorch, blocks in place",
    "transformers slow path",
    "mamba.py parallel scan",
)
CASES = (  # 8 and 64 frames of 224 x 224 pixels in 16 x 16 patches, for the tiny and the middle model
    Case(1, 1569, 384, False, ("vmr, output kept", "vmr", EXPONENTIALS, *EVERYONE)),
    Case(1, 12545, 1152, False, ("vmr, output kept", "vmr", EXPONENTIALS, "transformers slow path"), heavy=True),
    Case(1, 1569, 384, True, ("vmr", "plain PyTorch, chunked", "mamba.py parallel scan")),
)


def prepare(peer: str, case: Case) -> Work:
    """Make the work of one peer.

    Args:
        peer: its name.
        case: shape and passes.

    Returns:
        The function to time.
    """
    if peer == EXPONENTIALS:
        return _exponentials(case)
    scan = PEERS[peer]
    inputs = random_inputs(case.batch, case.length, case.channels, NUM_STATES, requires_grad=case.backward)
    warm_up = random_inputs(1, 2, 16, NUM_STATES, requires_grad=case.backward)  # imports are not the scan's memory
    if scan in TAKE_CHANNELS_FIRST:
        inputs, warm_up = channels_first(inputs), channels_first(warm_up)

    ones = torch.ones_like(inputs.u) if case.backward else None

    def forward() -> None:
        with torch.no_grad():
            scan(inputs)

    def forward_and_backward() -> None:
        torch.autograd.backward(scan(inputs), ones)
        for tensor in inputs:
            tensor.grad = None

    if case.backward:
        torch.autograd.backward(scan(warm_up).sum())
    else:
        with torch.no_grad():
            scan(warm_up)
    return forward_and_backward if case.backward else forward


def _exponentials(case: Case) -> Work:
    """The exponentials of the scan alone, one for every step, channel and state, of numbers that stay in the cache."""
    threads = torch.get_num_threads()
    x, y = torch.linspace(-4, 0, CACHED), torch.empty(threads, CACHED)
    rounds = case.batch * case.length * case.channels * NUM_STATES // CACHED
    library = cpu_kernel.library()
    return lambda: library.vmr_exponentials(x.data_ptr(), y.data_ptr(), CACHED, rounds, threads)


def table(case: Case, results: list[Measurement]) -> Table:
    """Make the table of one case: times, their ratios to the first row, and memory without the inputs.

    Args:
        case: shape and passes.
        results: one for each peer, ours first.

    Returns:
        The table.
    """
    view = Table(title=f"{case.title} (output {case.output_mb:.1f} MB)", title_justify="left")
    for heading in ("", "best ms", "runs", "time / first", "extra memory MB"):
        view.add_column(heading, justify="left" if not heading else "right")
    ours = results[0].best
    for result in results:
        if result.absent:
            view.add_row(result.name, f"absent: {result.absent}")
            continue
        ratio = result.best / ours
        view.add_row(
            result.name, f"{result.best * 1e3:.2f}", str(len(result.seconds)),
            f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2f}", f"{result.extra_memory_mb:.1f}",
        )  # fmt: skip
    return view


def main(argv: list[str] | None = None) -> None:
    """Run the cases, print a table for each, and write all numbers to the file of --json.

    Args:
        argv: the command line; `sys.argv` if None.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python -m benchmarks.scan --quick --json scan.json"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run's seconds and the environment to it")
    parser.add_argument(
        "--quick", action="store_true", help="leave out the long sequence, and spend less time on each peer"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="for each peer (default: torch's)")
    options = parser.parse_args(argv)

    console = Console()
    record: dict[str, object] = {"environment": {**environment(), "threads": str(options.threads)}}
    console.print(", ".join(f"{key} {value}" for key, value in record["environment"].items()))  # type: ignore[attr-defined]
    cases = []
    for case in CASES:
        if case.heavy and options.quick:
            continue
        results = measure_in_turns(
            prepare, case.peers, (case,), seconds=10 if options.quick else 40, threads=options.threads
        )
        console.print(table(case, results))
        cases.append({"case": asdict(case), "results": [asdict(result) for result in results]})
    if options.json:
        options.json.write_text(json.dumps({**record, "cases": cases}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
