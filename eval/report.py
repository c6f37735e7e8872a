"""What an evaluation found, with everything needed to know what the numbers are. Imports no torch."""

import json
import platform
import sys
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vmr.data.files import require_writable, write_atomically
from vmr.retrieval.manifest import Failure

SCHEMA = "vmr-report/1"
PACKAGES = ("vmr", "torch", "numpy", "av", "transformers", "timm", "open_clip_torch")


@dataclass(frozen=True)
class Report:
    """One evaluation. `scores` holds one column a scoring kind, each a mapping such as `text_to_video/R@1` -> percent.

    The kinds: `embedding`; `vtm`, the `rerank_depth` best of these matched token by token, the rest below them; and
    `static` and `shuffled`, embeddings without motion.

    `num_videos` and `num_texts` are what was scored, the `_asked` ones what the data set holds; `failures` names every
    video between the two.
    """

    dataset: str
    encoder: str
    about: str
    fingerprint: str
    num_frames: int
    sampling: str
    reader: str
    num_videos: int
    num_videos_asked: int
    num_texts: int
    num_texts_asked: int
    failures: tuple[Failure, ...]
    scores: dict[str, dict[str, float]]
    rerank_depth: int = 0
    command: str = field(default_factory=lambda: " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]))
    date: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))

    @property
    def complete(self) -> bool:
        """Whether every video of the data set was scored."""
        return not self.failures

    @property
    def coverage(self) -> str:
        """What the scores are over, in words."""
        missing = f" ({len(self.failures)} missing or unreadable)" if self.failures else ""
        return (
            f"{self.num_videos} of {self.num_videos_asked} videos{missing}, "
            f"{self.num_texts} of {self.num_texts_asked} texts"
        )

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON types, with the schema's name and the machine it was made on."""
        machine = {"platform": platform.platform(), "python": platform.python_version(), **_package_versions()}
        return {"schema": SCHEMA, **asdict(self), "versions": machine}

    def save(self, path: str | Path) -> None:
        """Writes the report as JSON, the whole file or nothing; makes the folder where there is none."""
        require_writable(path)
        text = json.dumps(self.as_dict(), indent=1) + "\n"
        write_atomically(Path(path), lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _package_versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
