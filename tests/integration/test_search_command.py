"""`vmr-search` as it is used: for one query, on a terminal, and by another program that writes queries into a pipe."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.indexes import put_rows, space
from tests.integration.commands import BIN, refused, run_here
from tests.integration.terminal import Terminal
from tests.patience import PATIENCE_S
from tests.video_matrix import write_video
from vmr.retrieval.storage.records import IndexSettings
from vmr.retrieval.storage.writer import IndexWriter

MOMENTS = {
    ("cam/street.mp4", 0.0, 8.0): "a man on a bicycle in city traffic",
    ("cam/street.mp4", 30.0, 32.0): "a red sports car on a road",
    ("cam/street.mp4", 60.0, 68.0): "a yellow school bus full of children",
    (os.fsdecode(b"bad\xff.mp4"), 0.0, 8.0): "a cat sleeps on a sofa",
    ("gone.mp4", 3600.0, 3608.0): "a pizza with cheese and tomatoes",
    ("broken.mp4", 0.0, 8.0): "a volcano at night",
}


@pytest.fixture(scope="module")
def folder(offline, tmp_path_factory) -> Path:
    """A folder of videos, and an index of it whose vectors are those of sentences: what each moment shows is known."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "videos" / "cam").mkdir(parents=True)
    write_video(folder / "videos" / "cam" / "street.mp4")
    shutil.copy(folder / "videos" / "cam" / "street.mp4", folder / "videos" / os.fsdecode(b"bad\xff.mp4"))
    (folder / "videos" / "broken.mp4").write_bytes(b"no video")
    vectors = offline.encode_text(list(MOMENTS.values())).numpy()
    with IndexWriter(folder / "index", IndexSettings(8.0, 4.0)) as writer, writer.commit() as changes:
        own = space("offline", offline.embed_dim, fingerprint=offline.fingerprint)
        put_rows(changes, changes.add_space(own), tuple(MOMENTS), vectors, root=str(folder / "videos"))
    return folder


@pytest.fixture
def players(tmp_path, monkeypatch) -> Path:
    """A folder that is all of PATH; programs that are put there note what they are given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def put_player(folder: Path, name: str, status: int = 0) -> Path:
    """Put a player there. Returns the file in which it notes its arguments."""
    noted = folder / f"{name}.txt"
    (folder / name).write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{noted}"\nexit {status}\n')
    (folder / name).chmod(0o755)
    return noted


def search(*arguments: object) -> list[str]:
    """The lines that the command prints."""
    done = run_here("vmr-search", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# --- one query --------------------------------------------------------------------------------------------------------


def test_moments_are_printed_with_names_from_here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    title, header, first, *others = search("index", "a cyclist in the city", "--k", 6)
    assert title == "a cyclist in the city"
    assert header.split()[0] == "time" and header.endswith("  video")
    assert first.startswith("1  0:00:00 - 0:00:08") and first.endswith("videos/cam/street.mp4")
    assert len(others) == 5
    assert any("0:00:30.0 - 0:00:32.0" in line for line in others)
    assert any("1:00:00 - 1:00:08" in line and "  missing  " in line for line in others)
    assert any(line.endswith("videos/bad\\udcff.mp4") for line in others)


def test_options_of_the_search(folder):
    index = folder / "index"
    assert len(search(index, "a bus", "--k", 2)) == 4
    lines = search(index, "a bus", "--where", 'folder = "cam"', "--per-video", 1)
    assert len(lines) == 3 and "0:01:00 - 0:01:08" in lines[2]
    assert search(index, "a bus", "--where", 'path = "none.mp4"')[1:] == ["no moment was found"]
    # a word after an option, and a sentence that YAML would read otherwise
    assert search(index, "--k", 1, "null")[0] == "null"
    assert search(index, "--k=1", "--keep-duplicates", "yes", "--overlapping")[0] == "yes"


def test_one_object_of_json_and_more_like_one_of_its_moments(folder):
    found = json.loads("\n".join(search(folder / "index", "a cyclist in the city", "--json", "--k", 2)))
    assert {"query", "index", "took_ms", "nothing_close", "hits"} <= found.keys()
    assert found["query"] == "a cyclist in the city"
    (first, _) = found["hits"]
    assert first["video"] == str(folder / "videos" / "cam" / "street.mp4")
    like = json.loads("\n".join(search(folder / "index", "--like", first["moment_id"], "--json")))
    assert first["moment_id"] not in [hit["moment_id"] for hit in like["hits"]]


def test_a_sheet_marks_what_cannot_be_drawn(folder, tmp_path):
    search(folder / "index", "a man", "--k", 6, "--sheet", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        colours = [sheet.getpixel((12 + number * 268 + 128, 12 + 22 + 20)) for number in range(6)]
    assert colours.count((222, 222, 218)) == 2  # gone.mp4 and broken.mp4


@pytest.mark.parametrize(("player", "option"), [("mpv", "--start=0.000"), ("vlc", "--start-time=0.000")])
def test_a_player_starts_at_the_moment(folder, players, player, option):
    noted, other = put_player(players, player), put_player(players, "xdg-open")
    done = run_here("vmr-search", folder / "index", "a cyclist in the city", "--play", 1)
    assert done.returncode == 0, done.stderr
    assert f"{player} plays {folder}/videos/cam/street.mp4 from 0:00:00" in done.stderr
    assert noted.read_text().splitlines() == [option, str(folder / "videos" / "cam" / "street.mp4")]
    assert not other.exists()


def test_names_that_are_not_utf_8_reach_the_player(folder, players):
    noted = put_player(players, "mpv")
    search(folder / "index", "a cat sleeps on a sofa", "--play", 1)
    assert noted.read_bytes() == b"--start=0.000\n" + os.fsencode(folder) + b"/videos/bad\xff.mp4\n"


def test_the_program_of_the_system_opens_the_video_where_there_is_no_player(folder, players, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    noted = put_player(players, "xdg-open")
    done = run_here("vmr-search", folder / "index", "a yellow school bus full of children", "--play", 1)
    assert "it starts at the beginning, so go to 0:01:00" in done.stderr
    assert noted.read_text().splitlines() == [str(folder / "videos" / "cam" / "street.mp4")]


def test_what_cannot_be_played(folder, players):
    command = ("vmr-search", folder / "index", "a pizza with cheese and tomatoes", "--k", 2, "--play")
    assert refused(run_here(*command, 2)) == "error: there is no player: install mpv or vlc"
    assert refused(run_here(*command, 3)) == "error: --play 3: there is no such moment, but 2 of them"
    assert refused(run_here(*command, 1)).endswith(
        "gone.mp4: no such file: it was moved or removed since it was indexed"
    )
    put_player(players, "mpv", status=2)
    assert refused(run_here(*command, 2)) == "error: mpv ended with status 2: can this session show windows?"
    (players / "mpv").write_bytes(b"no program")
    assert "mpv: cannot be started: " in refused(run_here(*command, 2))


def test_what_is_refused(folder, tmp_path):
    index = folder / "index"
    for arguments, said in (
        (["a dog", "--like", 3], "--like takes the place of the sentence"),
        (["--like", 99], "the index holds no moment 99"),
        (["-", "--play", 2], "--play needs a sentence"),
        (["-", "--sheet", "x.png"], "--sheet needs a sentence"),
        (["a dog", "--sheet", tmp_path], "is a folder"),
        (["a dog", "--where", "nonsense"], "nonsense"),
        (["a dog", "--per-video", 0], "--per-video must be a whole number of at least 1"),
        (["a dog", "--min-match", 2], "--min-match is 2.0, but must be between 0 and 1"),
        (["a dog", "cat"], "'cat' is one argument too many"),
    ):
        assert said in refused(run_here("vmr-search", index, *arguments)), arguments


# --- a program that asks ----------------------------------------------------------------------------------------------


def test_lines_are_answered_one_by_one(folder):
    process = subprocess.Popen(
        [BIN / "vmr-search", folder / "index", "--k", "2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

    def ask(line: bytes) -> dict:
        process.stdin.write(line + b"\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    answer = ask(b"a cyclist in the city")
    assert answer["query"] == "a cyclist in the city" and len(answer["hits"]) == 2
    best = answer["hits"][0]["moment_id"]
    answer = ask(b'{"query": "a bus", "k": 1, "where": "folder = \\"cam\\""}')
    assert [hit["start_s"] for hit in answer["hits"]] == [60.0]
    assert len(ask(b"a bus")["hits"]) == 2  # the options of one line are not those of the next
    assert best not in [hit["moment_id"] for hit in ask(b'{"like": %d}' % best)["hits"]]
    for line, said in (
        (b"", "the query is empty"),
        (b"bad \xff", "not valid text"),
        (b'{"query": "a dog"', "no JSON object"),
        (b"{" * 100_000, "no JSON object"),
        (b'{"k": 3}', "either query, a sentence, or like"),
        (b'{"query": "a dog", "like": 3}', "either query, a sentence, or like"),
        (b'{"query": 5}', "query must be a text, not 5"),
        (b'{"like": "a dog"}', "like must be a whole number"),
        (b'{"query": "a dog", "k": "many"}', "k must be a whole number of at least 1, not 'many'"),
        (b'{"query": "a dog", "kk": 3}', "there is no option kk"),
        (b'{"query": "a dog", "where": "nonsense"}', "nonsense"),
    ):
        answer = ask(line)
        assert answer.keys() == {"query", "error"} and said in answer["error"], answer
        assert os.fsencode(answer["query"]) == line
    assert ask(b"a dog")["hits"]
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2 and out == b""
    assert err.decode().splitlines() == ["error: 11 of 16 lines could not be answered; their answers say why"]


def test_a_dash_stands_for_lines_and_no_lines_are_no_error(folder):
    command = [BIN / "vmr-search", folder / "index", "-"]
    done = subprocess.run(command, input=b"a dog\r\na cat", capture_output=True, check=True, timeout=PATIENCE_S)
    assert [json.loads(line)["query"] for line in done.stdout.splitlines()] == ["a dog", "a cat"]


# --- a person ---------------------------------------------------------------------------------------------------------


def test_a_session(folder, players, monkeypatch):
    noted = put_player(players, "mpv")
    monkeypatch.chdir(folder)
    terminal = Terminal("vmr-search", "index", "--k", 2)
    assert "6 windows. Type what a video should show, or :help" in terminal.until_prompt()
    assert "error: there is no query yet" in terminal.type(":more\n")
    shown = terminal.type("a cyclist in the city\n")
    assert "1  0:00:00 - 0:00:08" in shown and "\n2  " in shown and "\n3  " not in shown
    shown = terminal.type(":more\n")
    assert "\n3  " in shown and "\n4  " in shown and "\n1  " not in shown and "a cyclist in" not in shown
    assert "\n5  " in terminal.type(":m\n")
    assert "no more moments" in terminal.type(":more\n")
    assert "mpv plays" in terminal.type(":play 1\n")
    assert noted.read_text().splitlines() == ["--start=0.000", f"{folder}/videos/cam/street.mp4"]

    assert "\n1  0:00:00 - 0:00:08" in (shown := terminal.type(':where folder = "cam"\n'))
    assert 'a cyclist in the city, where folder = "cam"' in shown and "videos/cam" in shown
    shown = terminal.type(":like 1\n")
    assert "like street.mp4" in shown and "1  0:00:00 -" not in shown and "\n3  " not in shown
    assert "\n2  " not in terminal.type(":k 1\n")
    assert ", where" not in terminal.type(":where\n")
    assert "drew 1 moments: of mine.png" in terminal.type(":sheet of mine.png\n")
    assert (folder / "of mine.png").is_file()

    for line, said in (
        (":where duration >\n", "error: "),
        (":play 2\n", "error: :play 2: 1 moments are shown"),
        (":play\n", "error: :play needs a whole number of at least 1, such as :play 2"),
        (":like x\n", "error: :like needs a whole number"),
        (":k 0\n", "error: :k needs a whole number"),
        (":sheet\n", "error: :sheet needs the name of a file"),
        (":sheet index\n", "error: index: "),
        (":more 3\n", "error: :more takes no value: leave out '3'"),
        (":nonsense\n", "error: there is no command :nonsense: see :help"),
        (":\n", "error: there is no command :: see :help"),
        (b"bad \xff\n", "error: the query is empty or not valid text"),
        (":help\n", ":where EXPRESSION"),
        ("\n", ""),
    ):
        shown = terminal.type(line)
        assert said in shown and "Traceback" not in shown, shown
    terminal.interrupt()
    assert "interrupted; Ctrl-C once more" in terminal.until_prompt()
    assert "1  1:00:00" in terminal.type("a pizza\n")
    terminal.interrupt()
    assert "interrupted; Ctrl-C once more" in terminal.until_prompt()
    assert "1  1:00:00" in terminal.type("a pizza\n")
    terminal.press("\x04")
    assert terminal.end()[0] == 0

    # the next session remembers; Ctrl-C twice in a row ends it
    terminal = Terminal("vmr-search", "index", "--k", 2)
    terminal.until_prompt()
    assert "1  1:00:00 - 1:00:08" in terminal.type("\x1b[A\n")
    terminal.interrupt()
    terminal.until_prompt()
    terminal.interrupt()
    status, shown = terminal.end()
    assert status == 130 and "Traceback" not in shown
