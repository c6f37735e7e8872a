"""Small classifiers, and films of one colour in a folder for each class."""

from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from vmr.models.classification.config import NetworkConfig
from vmr.models.classification.networks import build_network
from vmr.models.classification.saved import save_classifier
from vmr.models.classifier import ClipInput, Prediction

COLOURS = {"blue": (20, 20, 220), "green": (20, 200, 20), "red": (220, 20, 20)}
"""Class -> RGB; in the order of the alphabet."""


class ColourClassifier:
    """Says which of the channels of a clip is the brightest; it counts the views that it is given.

    Args:
        labels: names of the classes; those of COLOURS are told apart, the others get lower logits.
        stop_at: raise KeyboardInterrupt at this number of views.
    """

    about, target, num_frames, size, frames = "sees colours", "single", 2, 16, "sparse"

    def __init__(self, labels: tuple[str, ...] = ("red", "green", "blue"), stop_at: int | None = None) -> None:
        self.name, self.labels, self.fingerprint = "colours", labels, f"colours {labels}"
        self.count, self.stop_at = 0, stop_at

    def logits(self, video: Tensor) -> Tensor:
        """(B, T, 3, S, S) -> (B, C)."""
        self.count += len(video)
        if self.stop_at is not None and self.count >= self.stop_at:
            raise KeyboardInterrupt
        means = video.float().mean(dim=(1, 3, 4)) / 50
        channel = {"red": 0, "green": 1, "blue": 2}
        return torch.stack(
            [means[:, channel[name]] if name in channel else means.amin(dim=1) - 1 for name in self.labels], dim=1
        )

    def classify(self, video: Tensor, k: int = 5) -> list[Prediction]:
        """Name the likeliest class."""
        return [Prediction((self.labels[number],), (1.0,)) for number in self.logits(video).argmax(dim=1).tolist()]


def save_tiny_classifier(folder: Path, labels: tuple[str, ...] = ("red", "green", "blue"), seed: int = 0) -> Path:
    """Save a VideoMamba of random weights that takes 2 frames of 16 pixels."""
    torch.manual_seed(seed)
    sizes = {"width": 16, "num_layers": 1, "image_size": 16, "num_frames": 2, "patch_size": 8}
    network = build_network(NetworkConfig(num_classes=len(labels), **sizes))
    with torch.no_grad():
        network.head.weight.normal_()
    save_classifier(folder, network, labels, "single", ClipInput(2, 16))
    return folder


def write_colour_film(path: Path, rgb: tuple[int, int, int], num_frames: int = 6) -> Path:
    """Write a film of one colour, 40 x 32 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as target:
        stream = target.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 40, 32, "yuv420p"
        for _ in range(num_frames):
            picture = np.full((32, 40, 3), rgb, np.uint8)
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        target.mux(stream.encode(None))
    return path


def write_colour_tree(folder: Path, num_each: int = 2) -> Path:
    """Write a folder with a subfolder for each class of COLOURS."""
    for name, rgb in COLOURS.items():
        for number in range(num_each):
            write_colour_film(folder / name / f"{name}_{number}.mp4", rgb, 5 + number)
    return folder
