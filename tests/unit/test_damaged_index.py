"""Damage to an index that SQLite does not notice is told in one line wherever it is met."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest

from tests.indexes import TwoDimensional, write_index
from tests.integration.commands import run_here
from vmr.errors import IndexFileError
from vmr.retrieval.index import open_index
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.verify import verify

ROWS = [("a.mp4", 0.0, 2.0), ("a.mp4", 1.0, 3.0), ("b.mp4", 0.0, 2.0)]
VECTORS = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)


@pytest.fixture
def folder(tmp_path):
    return write_index(tmp_path / "index", ROWS, VECTORS)


def change(folder, statement):
    with closing(sqlite3.connect(folder / "index.db")) as database, database:
        database.execute(statement)


def refused(call):
    with pytest.raises(IndexFileError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE videos SET metadata = '{'",
        'UPDATE videos SET remarks = \'[{"kijd": "damage", "text": "cut"}]\'',
        "UPDATE videos SET remarks = '7'",
    ],
)
def test_a_row_that_is_no_json(folder, statement):
    change(folder, statement)
    with IndexReader(folder) as reader, reader.snapshot() as snapshot:
        assert "a row of the index is damaged" in refused(lambda: list(snapshot.videos()))
    assert verify(folder)


def test_a_text_that_is_not_utf_8(folder):
    """As after a flipped bit: Python's sqlite3 quotes the whole text, and calls it an error of operation."""
    change(folder, "UPDATE videos SET path = CAST(x'61ff0a62ff' AS TEXT) WHERE id = 1")

    def read():
        with IndexReader(folder) as reader, reader.snapshot() as snapshot:
            list(snapshot.videos())

    said = "Could not decode to UTF-8 column 'path'"
    assert f"{folder / 'index.db'} is damaged ({said}): vmr-index verify says what" in refused(read)
    assert [fault.what for fault in verify(folder)] == [said]


def test_a_damaged_index_is_replaced_where_that_is_asked_for(folder, footage):
    change(folder, "UPDATE spaces SET name = CAST(x'61ff0a62ff' AS TEXT)")
    build = ("vmr-index", "build", footage / "bikes.mp4", "--out", folder, "--encoder", "videomamba-nano-shapes")
    refused_build = run_here(*build)
    assert refused_build.returncode == 2 and "is damaged (Could not decode to UTF-8" in refused_build.stderr
    assert run_here(*build, "--overwrite").returncode == 0
    assert not verify(folder)


def test_a_space_of_an_unknown_type(folder):
    change(folder, "UPDATE spaces SET dtype = 'floau32'")
    assert "a row of the index is damaged" in refused(lambda: open_index(folder, TwoDimensional()).search("1 0"))
    assert verify(folder)


@pytest.mark.parametrize("key", ["commit", "next_removed"])
def test_a_counter_that_is_no_number(folder, key):
    change(folder, f"UPDATE meta SET value = 'x' WHERE key = '{key}'")
    said = refused(lambda: open_index(folder, TwoDimensional()).search("1 0"))
    assert f"the counter {key} of the index is damaged" in said
    assert verify(folder)


def test_a_window_without_a_row(folder):
    change(folder, "DELETE FROM windows WHERE id = 2")
    index = open_index(folder, TwoDimensional())
    for question in (lambda: index.search("1 0"), lambda: index.vectors):
        assert "window 2 has a vector and no row" in refused(question)
    assert verify(folder)


def test_an_index_whose_making_was_interrupted(folder):
    (folder / "index.db-journal").touch()  # SQLite cannot undo it without writing
    assert "is not a finished index" in refused(lambda: IndexReader(folder))
    assert ["not a finished index" in fault.what for fault in verify(folder)] == [True]
