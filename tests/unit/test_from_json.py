"""JSON to dataclasses: valid values are converted, and others are refused with the name of their key."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from vmr.errors import VmrError
from vmr.from_json import LATER, from_json


@dataclass(frozen=True)
class Point:
    """Inner record."""

    x: float
    label: str | None


@dataclass(frozen=True)
class Shape:
    """Outer record."""

    kind: Literal["line", "arc", 3]
    points: tuple[Point, ...]
    size: tuple[int, int]
    notes: dict[str, Any] | None
    closed: bool


def shape(**changes: object) -> dict[str, object]:
    content = {"kind": "arc", "points": [{"x": 1, "label": None}], "size": [2, 3], "notes": None, "closed": True}
    return content | changes


def test_every_type_is_read() -> None:
    assert from_json(Shape, shape(), "") == Shape("arc", (Point(1.0, None),), (2, 3), None, True)
    assert type(from_json(Shape, shape(), "").points[0].x) is float  # an integer is accepted as a float
    notes = {"any": [1, {"thing": None}]}
    assert from_json(Shape, shape(kind=3, points=[], notes=notes), "") == Shape(3, (), (2, 3), notes, True)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"kind": "dot"}, "kind is 'dot', expected one of line, arc, 3"),
        ({"kind": 3.0}, "kind is 3.0, expected one of line, arc, 3"),  # equal to 3, but of another type
        ({"kind": ["arc"]}, "kind is ['arc'], expected one of line, arc, 3"),
        ({"points": [{"x": "1", "label": None}]}, "points[0].x is '1', expected a number"),
        ({"points": [{"x": 1}]}, "points[0]: missing key label"),
        ({"size": [1]}, "size has 1 items, expected 2"),
        ({"size": [1, True]}, "size[1] is True, expected an integer"),
        ({"notes": []}, "notes is [], expected an object"),
        ({"colour": 1, "alpha": 2}, "unknown keys alpha, colour"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes: dict[str, object], line: str) -> None:
    with pytest.raises(VmrError) as caught:
        from_json(Shape, shape(**changes), "")
    assert str(caught.value) == line


def test_a_file_of_an_earlier_version_lacks_later_keys() -> None:
    @dataclass(frozen=True)
    class Circle:
        radius: float
        colour: str = field(default="red", metadata=LATER)
        width: int = 1

    assert from_json(Circle, {"radius": 2.0, "width": 3}, "") == Circle(2.0, "red", 3)
    with pytest.raises(VmrError, match="missing key width"):
        from_json(Circle, {"radius": 2.0}, "")


def test_the_whole_file_has_no_name() -> None:
    with pytest.raises(VmrError, match="the file is 1, expected an object"):
        from_json(Shape, 1, "")
    with pytest.raises(VmrError, match="config is 'x', expected one of a, b"):
        from_json(Literal["a", "b"], "x", "config")
