"""The tasks of LVU, which are told apart by the folder of their lists."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LvuTask:
    """A task of LVU.

    Attributes:
        name: of the folder of its lists.
        num_classes: of a classification; 0 for a regression.
    """

    name: str
    num_classes: int


_TASKS = {"relation": 4, "speak": 5, "scene": 6, "director": 10, "genre": 4, "writer": 10, "year": 9}
_REGRESSIONS = ("like", "view")
_FULL_NAMES = {
    "relationship": "relation",
    "way_speaking": "speak",
    "like_ratio": "like",
    "view_count": "view",
}


def lvu_task(folder: str) -> LvuTask | None:
    """Return the task whose lists are in a folder of this name; None for other folders.

    Args:
        folder: "relation", "speak", ..., also "relationship", "way_speaking", "like_ratio" and "view_count", and with
            "lvu_" before it.
    """
    name = folder.lower().removeprefix("lvu_").removeprefix("lvu-")
    name = _FULL_NAMES.get(name, name)
    if name in _REGRESSIONS:
        return LvuTask(name, 0)
    return LvuTask(name, _TASKS[name]) if name in _TASKS else None
