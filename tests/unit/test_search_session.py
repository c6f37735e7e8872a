"""An interactive search in this process: what Ctrl-C stops, what is remembered, and what is asked of the index."""

import io
import signal
import sys

import pytest

from tests.indexes import TwoDimensional, write_index
from vmr.cli.search.history import MAX_LINES, History
from vmr.cli.search.options import SearchOptions
from vmr.cli.search.session import Session
from vmr.errors import VmrError
from vmr.retrieval.index import open_index

ROWS = tuple((f"{number}.mp4", 0.0, 8.0) for number in range(5))
VECTORS = [[1, 0], [0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0, 1]]


class Words(TwoDimensional):
    """Texts are a direction or two numbers; Ctrl-C is pressed while the text "slow" is embedded."""

    def encode_text(self, texts):
        if texts == ["slow"]:
            signal.raise_signal(signal.SIGINT)
        known = {"right": "1 0", "up": "0 1", "a video": "1 1"}
        return super().encode_text([known.get(text, text) for text in texts])


@pytest.fixture
def asked(tmp_path, monkeypatch, capsys):
    """A function that types lines into a session, and returns what was printed and what was said of errors."""
    monkeypatch.setenv("VMR_CACHE", str(tmp_path / "cache"))
    index = open_index(write_index(tmp_path / "index", ROWS, VECTORS), Words())

    def ask(*lines: str, **options) -> tuple[str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        Session(index, SearchOptions(k=2, **options)).run()
        captured = capsys.readouterr()
        return captured.out, captured.err

    return ask


def test_ctrl_c_stops_a_query_and_not_the_session(asked):
    printed, said = asked("slow", "right")
    assert said == "\ninterrupted; Ctrl-C once more, Ctrl-D or :quit ends\n"
    assert "\n1  0:00:00 - 0:00:08" in printed
    printed, said = asked("slow", ":nonsense", "slow", "", "slow", ":quit", "right")  # not twice in a row
    assert said.count("interrupted") == 3 and "right" not in printed


def test_ctrl_c_twice_ends_the_session(asked):
    with pytest.raises(KeyboardInterrupt):
        asked("slow", "slow", "right")


def test_more_moments_are_those_that_were_not_shown(asked):
    printed, said = asked("right", ":more", ":more", ":more", ":like 5")
    numbers = [line.split()[0] for line in printed.splitlines() if line[:1].isdigit() and "0:00:00 -" in line]
    names = [line.split()[-1] for line in printed.splitlines() if line[:1].isdigit() and "0:00:00 -" in line]
    assert numbers == ["1", "2", "3", "4", "5", "1", "2"] and said == ""
    assert [name.removeprefix("/videos/") for name in names] == [row[0] for row in ROWS] + ["3.mp4", "2.mp4"]
    assert "no more moments" in printed


def test_a_session_begins_with_its_options_checked(asked):
    with pytest.raises(VmrError, match="nonsense"):
        asked("right", where="nonsense")


def test_what_was_typed_is_remembered(asked, tmp_path):
    asked("right", ":more")
    asked("up")
    assert History().lines == ["right", ":more", "up"]
    (tmp_path / "long").write_text("".join(f"{number}\n" for number in range(MAX_LINES + 5)))
    assert History(tmp_path / "long").lines[0] == "5"
    assert len((tmp_path / "long").read_text().splitlines()) == MAX_LINES


def test_a_session_does_without_readline(asked, monkeypatch):
    monkeypatch.setitem(sys.modules, "readline", None)  # as if Python did not have it
    assert "\n1  0:00:00 - 0:00:08" in asked("right")[0]
    assert History().lines == []


def test_a_history_that_cannot_be_kept_is_no_failure(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "file" / "history"):
        history = History(place)
        history.add("a dog")
        history.close()
        assert history.lines == []
    odd = History(tmp_path / "odd")
    for line in ("bad \udcff", "a\x1bb", "a dog"):
        odd.add(line)
    odd.close()
    assert (tmp_path / "odd").read_text() == "a dog\n"
    (tmp_path / "odd").write_bytes(b"bad \xff\nfine\n")
    assert History(tmp_path / "odd").lines[1] == "fine"


def test_options_are_checked_by_type():
    options = SearchOptions(k=2)
    assert options.changed({"k": 3, "where": "size > 3"}) == SearchOptions(k=3, where="size > 3")
    for wrong, said in (
        ({"kk": 3}, "there is no option kk, but k, where, "),
        ({"k": 0}, "k must be a whole number of at least 1, not 0"),
        ({"k": True}, "k must be a whole number of at least 1"),
        ({"where": 3}, "where must be a text or null, not 3"),
        ({"keep_duplicates": "yes"}, "keep_duplicates must be true or false, not 'yes'"),
    ):
        with pytest.raises(VmrError, match=said):
            options.changed(wrong)
