"""Measure what one clip costs the network of a training config, on one thread, and write the numbers as JSON.

python -m benchmarks.fair.cost configs/train/fair_vit.yaml cost.json --frames 4 8 16 32
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

from vmr.files import write_atomically
from vmr.models.classification.cost import count_operations
from vmr.models.classification.matching import count_parameters
from vmr.models.classification.measuring import measure
from vmr.train.config_file import read_config

RUNS = 30  # a run takes milliseconds


def main() -> None:
    """Write parameters, operations, CPU seconds and memory of the network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, nargs="+", default=[8])
    options = parser.parse_args()
    network = read_config(options.config).model.network
    if network is None:
        parser.error(f"{options.config} trains no classifier")
    found = {"network": asdict(network), "parameters": count_parameters(network), "clips": {}}
    for frames in options.frames:
        sizes = replace(network, num_frames=frames)
        cost = {"operations": count_operations(sizes).total, **asdict(measure(sizes, runs=RUNS))}
        found["clips"][str(frames)] = cost
    write_atomically(options.out, json.dumps(found, indent=1).encode())


if __name__ == "__main__":
    main()
