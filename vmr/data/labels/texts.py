"""Labels that stand beside their clips, as texts: in shards and tables that are too large to be read as a list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from vmr.data.labels.making import count_outputs, label_of
from vmr.data.labels.meaning import Source, find_meaning, given_names, label_numbers
from vmr.data.labels.rows import Row
from vmr.errors import AnnotationError
from vmr.targets import Label, Target


class TextLabels:
    """What texts mean as labels.

    Args:
        texts: all that occur, or some of them if `classes` names all classes.
        name: of the data set, for messages.
        classes: names of the classes by number, or a file with them; None to take them from the texts.
        target: what a label is; None to find out.
        several: whether a clip may have several of the texts.

    Attributes:
        target: what a label is.
        classes: names of the classes; None where nothing names them, and for regression.
        num_outputs: C.
        notes: where the names are from, one line each.

    Raises:
        AnnotationError: there are no texts, or one of them is no label.
    """

    def __init__(
        self,
        texts: Iterable[str],
        name: str,
        classes: str | Path | Sequence[str] | None,
        target: Target | None,
        *,
        several: bool = False,
    ) -> None:
        self._where = f"{name}: a clip"
        rows = [Row(self._where, "", (text,)) for text in texts]
        if not rows:
            raise AnnotationError(f"{name}: no clip has a label")
        source = Source(iter(rows), name, name, "table", Path())
        self._meaning = find_meaning(rows, source, given_names(classes), target or ("multi" if several else None))
        self.target, self.classes = self._meaning.target, self._meaning.classes
        self.num_outputs = count_outputs(self._meaning, [label_numbers(row, self._meaning) for row in rows])
        self.notes = tuple(f"{name}: {note}" for note in self._meaning.notes)

    def label(self, texts: tuple[str, ...]) -> Label:
        """Return the label of a clip.

        Args:
            texts: of the clip.

        Raises:
            AnnotationError: one is none of the classes, or there are several where a label is one class.
        """
        if len(texts) != 1 and self.target != "multi":
            raise AnnotationError(f"{self._where} has {len(texts)} labels, but target is {self.target}; use multi")
        return label_of(label_numbers(Row(self._where, "", texts), self._meaning), self.target, self.num_outputs)
