"""Time and memory of a network on this machine, measured in a process of its own."""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from vmr.errors import ModelError
from vmr.memory import peak_bytes, resident_bytes
from vmr.models.classification.config import NetworkConfig
from vmr.models.classification.matching import count_parameters
from vmr.models.classification.networks import build_network

RUNS = 3  # after a first one, which also measures the memory
TIMEOUT_S = 600


@dataclass(frozen=True)
class Measured:
    """What one clip costs on this machine.

    Attributes:
        cpu_seconds: of the fastest run on one thread; work of other processes adds little to it.
        memory_bytes: growth of the process's peak memory while a clip is classified, without weights and clip.
    """

    cpu_seconds: float
    memory_bytes: int


def measure(
    config: NetworkConfig, num_frames: int | None = None, image_size: int | None = None, *, runs: int = RUNS
) -> Measured:  # fmt: skip
    """Measure a network of these sizes, with fresh weights, in a new process that uses one thread.

    Args:
        config: kind and sizes.
        num_frames: frames of the clip; default, `config.num_frames`. 1 is an image.
        image_size: side of the frames in pixels; default, `config.image_size`.
        runs: how many runs are timed.

    Returns:
        Seconds and memory of one clip.

    Raises:
        ModelError: the sizes do not fit the kind, or the process failed or took longer than ten minutes.
        MissingExtraError: the kind is a transformer, and timm is not installed.
    """
    frames, size = num_frames or config.num_frames, image_size or config.image_size
    config = replace(config, num_frames=config.num_frames if frames == 1 else frames, image_size=size)
    count_parameters(config)  # an error in the sizes shows before a process starts
    options = [json.dumps(asdict(config)), str(frames), str(runs)]
    command = [sys.executable, "-m", "vmr.models.classification.measuring", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
        return Measured(**json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        raise ModelError(f"measuring {config.kind!r} took longer than {TIMEOUT_S} s") from None
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or [f"exit status {error.returncode}"])[-1]
        raise ModelError(f"measuring {config.kind!r} failed: {reason}") from None


def main() -> None:
    """Print what the network of the first argument costs for as many frames as the second says, in so many runs."""
    config, frames, runs = NetworkConfig(**json.loads(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = build_network(config).eval()
    video = torch.randn(1, frames, 3, config.image_size, config.image_size)
    with torch.no_grad():
        _forget_peak()
        before = resident_bytes()
        network(video)
        memory = max(peak_bytes() - before, 0)
        seconds = []
        for _ in range(runs):
            start = time.process_time()
            network(video)
            seconds.append(time.process_time() - start)
    print(json.dumps(asdict(Measured(min(seconds), memory))))


def _forget_peak() -> None:
    """Let the peak memory start at what is in use, where the kernel can do it (Linux)."""
    mark = Path("/proc/self/clear_refs")
    if mark.exists():
        with mark.open("w", encoding="ascii") as file:
            file.write("5")


if __name__ == "__main__":
    main()
