"""How moments look on a terminal and in a pipe: what is printed, worked out by hand."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from rich.cells import cell_len

from tests.paths import REPOSITORY
from tests.patience import PATIENCE_S
from vmr.cli.output import clock
from vmr.cli.search.hits import label_of, moment_in_words, names_of, notes_on, print_result
from vmr.retrieval.results import Hit, SearchResult, match_in_words


def hit(video="/videos/cam/a.mp4", start_s=64.0, end_s=72.0, match=0.93, **values):
    return Hit(0.31, video, start_s, end_s, values.pop("moment_id", 7), 1, match, "offline", **values)


def result(*hits, nothing_close=False):
    return SearchResult(hits, "two people riding bicycles", "index", 12.5, nothing_close)


def printed(capsys, *args, **options) -> list[str]:
    print_result(*args, **options)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("seconds", "rounded", "tenths"),
    [
        (0, "0:00:00", "0:00:00.0"),
        (0.04, "0:00:00", "0:00:00.0"),
        (0.05, "0:00:00", "0:00:00.1"),
        (4.5, "0:00:05", "0:00:04.5"),
        (59.96, "0:01:00", "0:01:00.0"),
        (75.5, "0:01:16", "0:01:15.5"),
        (3599.4, "0:59:59", "0:59:59.4"),
        (3600, "1:00:00", "1:00:00.0"),
        (360_000, "100:00:00", "100:00:00.0"),
    ],
)
def test_times(seconds, rounded, tenths):
    assert clock(seconds) == rounded
    assert clock(seconds, tenths=True) == tenths


def test_moments_that_are_short_have_tenths():
    assert moment_in_words(hit()) == "0:01:04 - 0:01:12"
    assert moment_in_words(hit(start_s=0.0, end_s=3.0)) == "0:00:00 - 0:00:03"
    assert moment_in_words(hit(start_s=1.5, end_s=4.4)) == "0:00:01.5 - 0:00:04.4"


def test_matches_in_words():
    words = {0.0: "unlikely", 0.24: "unlikely", 0.25: "weak", 0.59: "weak", 0.6: "good", 0.89: "good", 0.9: "strong"}
    assert {match: match_in_words(match) for match in words} == words
    assert match_in_words(1.0) == "strong"


def test_notes():
    assert notes_on(hit()) == ""
    assert notes_on(hit(missing=True)) == "missing"
    assert notes_on(hit(duplicates=("/b.mp4",))) == "+1 copy"
    assert notes_on(hit(duplicates=("/b.mp4", "/c.mp4"), missing=True)) == "missing, +2 copies"


def test_labels_of_pictures():
    assert label_of(hit("/videos/a\nb.mp4")) == ("0:01:04 - 0:01:12  strong", "a\\nb.mp4")
    assert label_of(hit(match=None)) == ("0:01:04 - 0:01:12  score 0.310", "a.mp4")


VIDEOS = ["/data/films/cam/a.mp4", "/data/films/b.mp4"]


@pytest.mark.parametrize(
    ("roots", "here", "expected"),
    [
        # the folder of the index lies below the current one
        (["/data/films"], "/data", ("", ["films/cam/a.mp4", "films/b.mp4"])),
        (["/data/films"], "/data/films", ("", ["cam/a.mp4", "b.mp4"])),
        # one of them does not
        (["/data/films"], "/data/films/cam", ("/data/films", ["cam/a.mp4", "b.mp4"])),
        (["/data/films"], "/home", ("/data/films", ["cam/a.mp4", "b.mp4"])),
        (["/data/films/cam", "/data/films"], "/home", ("/data/films", ["cam/a.mp4", "b.mp4"])),
        (["/data/films/cam", "/data/other"], "/home", ("/data", ["films/cam/a.mp4", "films/b.mp4"])),
        # a common folder that says nothing
        (["/data/films", "/media"], "/home", ("", VIDEOS)),
        ([], "/home", ("", VIDEOS)),
    ],
)
def test_names_of_files(roots, here, expected):
    assert names_of(VIDEOS, roots, here) == expected


def test_a_long_way_from_here_is_left_out():
    near, far = "/" + "n" * 24, "/" + "n" * 25
    assert names_of([f"{near}/a.mp4"], [near], "/") == ("", [f"{near[1:]}/a.mp4"])
    assert names_of([f"{far}/a.mp4"], [far], "/") == (far, ["a.mp4"])


def test_a_result_in_a_pipe(capsys):
    some = result(
        hit(match=1.0),
        hit("/videos/b.mp4", 3605.0, 3606.5, 0.64, duplicates=("/videos/c.mp4", "/videos/d.mp4")),
        hit("/videos/c.mp4", 0.0, 8.0, 0.04, missing=True),
    )
    assert printed(capsys, some, ["/videos"]) == [
        "two people riding bicycles",
        "   time                   match                           video, in /videos",
        "1  0:01:04 - 0:01:12      strong   ██████████             cam/a.mp4",
        "2  1:00:05.0 - 1:00:06.5  good     ██████░░░░  +2 copies  b.mp4",
        "3  0:00:00 - 0:00:08      unlikely ░░░░░░░░░░  missing    c.mp4",
    ]


def test_scores_stand_where_nothing_is_calibrated(capsys):
    lines = printed(capsys, result(hit(match=None), nothing_close=None), ["/videos"])
    assert lines[1:] == ["   time               score  video, in /videos", "1  0:01:04 - 0:01:12  0.310  cam/a.mp4"]


def test_the_order_of_the_matcher_is_shown(capsys):
    lines = printed(capsys, result(hit(rerank_score=-1.254)), ["/videos"])
    assert lines[1:] == [
        "   time               match                re-ranked  video, in /videos",
        "1  0:01:04 - 0:01:12  strong   █████████░      -1.25  cam/a.mp4",
    ]


def test_nothing_close_is_said_above_the_moments(capsys):
    lines = printed(capsys, result(hit(match=0.1), nothing_close=True), ["/videos"])
    assert lines[1].startswith("nothing close: ") and "try other words" in lines[1]
    assert lines[3].startswith("1  ")
    for nothing_close in (False, None):
        assert "nothing close" not in "".join(printed(capsys, result(hit(), nothing_close=nothing_close), []))


def test_remarks_are_no_result(capsys):
    some = SearchResult((hit(),), "a dog", "index", 12.5, False, ("a.mp4 is gone\x1b",))
    print_result(some, ["/videos"])
    captured = capsys.readouterr()
    assert captured.err == "a.mp4 is gone\\x1b\n" and "gone" not in captured.out


def test_no_moments(capsys):
    assert printed(capsys, result(nothing_close=True), []) == ["two people riding bicycles", "no moment was found"]
    assert printed(capsys, result(hit()), [], hits=(), first=6) == ["no more moments"]


def test_more_moments_are_numbered_on(capsys):
    lines = printed(capsys, result(hit(), hit(moment_id=8)), ["/videos"], hits=(hit(moment_id=8),), first=10)
    assert lines[0].endswith("video, in /videos") and lines[1].startswith("10  0:01:04")


ODD = {
    "control characters": ("/videos/a\x1b[31m\n.mp4", "a\\x1b[31m\\n.mp4"),
    "not UTF-8": (os.fsdecode(b"/videos/bad\xff.mp4"), "bad\\udcff.mp4"),
    "markup": ("/videos/[red]:dog:.mp4", "[red]:dog:.mp4"),
    "overrides of the direction": ("/videos/a\u202e4pm.mp4", "a\\u202e4pm.mp4"),
    "right to left": ("/videos/שלום.mp4", "שלום.mp4"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_names(name, capsys):
    video, shown = ODD[name]
    assert printed(capsys, result(hit(video)), ["/videos"])[-1].endswith(f"  {shown}")


LONG = "/videos/" + "/".join(["a very long name of a folder 長い名前"] * 8) + ".mp4"
SCRIPT = """
import sys
from vmr.cli.search.hits import print_result
from vmr.retrieval.results import Hit, SearchResult
first = Hit(0.31, "/videos/cam/a.mp4", 64.0, 72.0, 7, 1, 0.93, "offline")
second = Hit(0.31, sys.argv[1], 64.0, 72.0, 8, 2, 0.93, "offline", duplicates=("/b.mp4",))
print_result(SearchResult((first, second), "a dog", "index", 12.5, True), ["/videos"])
"""


def on_a_terminal(width: int, **environment: str) -> str:
    """What the script prints on a terminal of so many columns."""
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    names = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    variables = {name: value for name, value in os.environ.items() if name not in names}
    variables |= {"PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, LONG], stdout=inner, stdin=inner, env=variables)
    os.close(inner)
    parts = []
    with os.fdopen(outer, "rb", buffering=0) as terminal:
        try:
            while part := terminal.read(65536):
                parts.append(part)
        except OSError:  # Linux says so when the other end is closed
            pass
    assert process.wait(PATIENCE_S) == 0
    return b"".join(parts).decode()


@pytest.mark.parametrize("width", [60, 100, 200])
def test_lines_fit_the_terminal_and_names_are_whole(width):
    lines = re.sub(r"\x1b\[\d+m", "", on_a_terminal(width)).splitlines()
    assert all(cell_len(line) <= width for line in lines), lines
    assert ("█" in "".join(lines)) == (width >= 80)
    last = next(number for number, line in enumerate(lines) if line.startswith("2  "))
    column = lines[last - 1].index("cam/a.mp4")
    assert "".join(line[column:] for line in lines[last:]).replace(" ", "") == LONG[len("/videos/") :].replace(" ", "")


def test_colours_are_for_terminals_that_want_them(capsys):
    assert "\x1b[32m" in on_a_terminal(100)
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b[3" not in on_a_terminal(100, **variables)
    assert "\x1b" not in "".join(printed(capsys, result(hit(match=0.1), nothing_close=True), []))


def test_bars_are_ascii_where_the_output_is():
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": "ascii:backslashreplace"}
    done = subprocess.run([sys.executable, "-c", SCRIPT, LONG], capture_output=True, env=environment, check=True)
    assert b"strong   #########-" in done.stdout and b"\\u9577\\u3044" in done.stdout
