"""All protocols by name: those of published data sets, those of the synthetic benchmark, and a user's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vmr.data.annotations.retrieval_set import SHAPES, unknown_dataset
from vmr.data.shapes.split import TEST_CLIPS
from vmr.data.shapes.world import VERSION
from vmr.errors import VmrError
from vmr.eval.protocols.protocol import Protocol, Source, TrainSplit


def load_protocol(name: str | Path) -> Protocol:
    """Return a protocol.

    Args:
        name: of a published data set or of a part of the synthetic benchmark, or the path of a protocol file (.yaml).

    Raises:
        AnnotationError: there is no such protocol; the message names the nearest one.
        VmrError: the file is no protocol, or has the name of a protocol that comes with vmr.
    """
    if str(name).lower().endswith((".yaml", ".yml")):
        read = read_protocol(Path(name))
        if read.name in (FILE.name, *PROTOCOLS, *SHAPES_PROTOCOLS):
            raise VmrError(f"{name}: vmr has a protocol '{read.name}' of its own: give the file another name")
        return read
    found = {**PROTOCOLS, **SHAPES_PROTOCOLS}.get(str(name))
    if found is None:
        raise unknown_dataset(str(name), [*PROTOCOLS, *SHAPES_PROTOCOLS])
    return found


def read_protocol(file: Path) -> Protocol:
    """Read a protocol from a YAML file (example: `vmr.eval.protocols`); it is named after the file.

    Args:
        file: the file.

    Raises:
        VmrError: the file cannot be read, or is no protocol. The message names the file.
    """
    try:
        fields: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        return Protocol(
            name=file.stem,
            sources=tuple(Source(**{**one, "only": tuple(one.get("only", ()))}) for one in fields.pop("sources")),
            train_splits=tuple(TrainSplit(**one) for one in fields.pop("train_splits", ())),
            **fields,
        )
    except OSError as error:
        raise VmrError(f"{file}: cannot read this protocol: {error.strerror}") from None
    except (VmrError, TypeError, KeyError, AttributeError, ValueError, yaml.YAMLError) as error:
        raise VmrError(f"{file}: not a protocol: {' '.join(str(error).split())}") from None


FILE = Protocol(
    name="file",
    title="a user's own file",
    version=1,
    note="Whatever a .json list of videos and captions holds, every caption a query; the numbers compare with those "
    "over the same file alone.",
    source="this toolkit",
)
"""The protocol of every annotation file of a user's own."""

PROTOCOLS: dict[str, Protocol] = {
    path.stem: read_protocol(path) for path in sorted(Path(__file__).parent.glob("*.yaml"), key=lambda path: path.stem)
}
"""Name -> protocol of a published data set."""

SHAPES_PROTOCOLS: dict[str, Protocol] = {
    name: Protocol(
        name=name,
        title=f"synthetic shapes, {part}",
        version=VERSION,
        note="Rendered clips of two moving shapes whose captions one frame does not decide; for testing a toolkit or a "
        "model's sense of motion, not to be compared with figures on footage.",
        source="this toolkit",
        sources=(Source("test.json", "json", num_videos=TEST_CLIPS[part], num_texts=TEST_CLIPS[part]),),
        where="rendered on first use",
        needs_time=True,
    )
    for name, part in SHAPES.items()
}
"""Name -> protocol of a test part of the synthetic benchmark."""
