"""All protocols of classification by name: those of published data sets, and that of a user's own files."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml

from vmr.data.shapes.actions import ACTIONS, ACTIONS_VERSION, TEST_LAYOUTS
from vmr.errors import AnnotationError, VmrError
from vmr.eval.classification.protocols.protocol import ClassificationProtocol


def find_protocol(name: str) -> ClassificationProtocol:
    """Return a protocol.

    Args:
        name: of a published data set; the path of a protocol file (.yaml); or the path of a list or folder of one's
            own, for the protocol FILE.

    Raises:
        AnnotationError: there is neither such a protocol nor such a path; the message names the nearest protocol.
        VmrError: the file is no protocol, or holds several.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    if name.lower().endswith((".yaml", ".yml")):
        read = read_protocols(Path(name))
        if len(read) > 1 or read[0].name in PROTOCOLS:
            raise VmrError(f"{name}: a file of your own holds one protocol, under a name that vmr has not")
        return read[0]
    if Path(name).exists():
        return FILE
    close = difflib.get_close_matches(name, PROTOCOLS, n=1)
    hint = f": did you mean {close[0]!r}?" if close else ""
    raise AnnotationError(
        f"there is neither a data set nor a file {name!r}{hint} (data sets with classes: {', '.join(PROTOCOLS)})"
    )


def read_protocols(file: Path) -> list[ClassificationProtocol]:
    """Read the protocols of a YAML file.

    Args:
        file: the file.

    Returns:
        One protocol with the name of the file, or one for each of its variants.

    Raises:
        VmrError: the file cannot be read, or is no protocol. The message names the file.
    """
    try:
        fields: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        variants: dict[str, dict[str, Any]] = fields.pop("variants", None) or {"": {}}
        return [
            ClassificationProtocol(**{**fields, "name": f"{file.stem}-{end}" if end else file.stem, **changes})
            for end, changes in variants.items()
        ]
    except OSError as error:
        raise VmrError(f"{file}: cannot read this protocol: {error.strerror}") from None
    except (VmrError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
        raise VmrError(f"{file}: not a protocol: {' '.join(str(error).split())}") from None


FILE = ClassificationProtocol(
    name="file",
    title="a user's own files",
    version=1,
    note="Whatever a list of videos and labels, or a folder for each class, holds; the numbers compare with those over "
    "the same files alone.",
    source="this toolkit",
    num_segments=4,
    num_crops=3,
)
"""The protocol of every list and folder of a user's own; pictures have one segment and one crop."""

SHAPES_ACTIONS = ClassificationProtocol(
    name="shapes-actions",
    title="synthetic actions of shapes",
    version=ACTIONS_VERSION,
    note="Drawn clips of two moving shapes in 24 classes that only the order of the frames tells; for testing a "
    "toolkit or a classifier's sense of time, not to be compared with figures on footage.",
    source="this toolkit",
    num_classes=len(ACTIONS),
    num_videos=len(ACTIONS) * TEST_LAYOUTS,
    needs_time=True,
)
"""The protocol of the test part of the synthetic actions; its clips are drawn, and are their only view."""

PROTOCOLS: dict[str, ClassificationProtocol] = {
    SHAPES_ACTIONS.name: SHAPES_ACTIONS,
    **{
        protocol.name: protocol
        for file in sorted(Path(__file__).parent.glob("*.yaml"), key=lambda path: path.stem)
        for protocol in read_protocols(file)
    },
}
"""Name -> protocol of a published data set, or of the synthetic one."""
