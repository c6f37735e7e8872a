"""All protocols by name: those of published data sets, the synthetic benchmark, and a user's own file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vmr.data.annotations.retrieval_set import SHAPES, unknown_dataset
from vmr.data.shapes.split import TEST_CLIPS
from vmr.data.shapes.world import VERSION
from vmr.errors import VmrError
from vmr.eval.protocols.protocol import Protocol, Source, TrainSplit


def protocol(name: str) -> Protocol:
    """The protocol of that name. Raises AnnotationError, with the nearest name, where there is none."""
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    if name in SHAPES_PROTOCOLS:
        return SHAPES_PROTOCOLS[name]
    raise unknown_dataset(name, [*PROTOCOLS, *SHAPES_PROTOCOLS])


def read_protocol(file: Path) -> Protocol:
    """The protocol in a YAML file, which is named after it. Raises VmrError, naming the file, for what is not one."""
    try:
        fields: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        read = Protocol(
            name=file.stem,
            sources=tuple(Source(**{**one, "only": tuple(one.get("only", ()))}) for one in fields.pop("sources")),
            train_splits=tuple(TrainSplit(**one) for one in fields.pop("train_splits", ())),
            **fields,
        )
    except (VmrError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise VmrError(f"{file}: not a protocol: {error}") from None
    return read


FILE = Protocol(
    name="file",
    title="a user's own file",
    version=1,
    note="Whatever a .json list of videos and captions holds, every caption a query; the numbers compare with those "
    "over the same file alone.",
    source="this toolkit",
)

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
