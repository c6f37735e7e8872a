"""Progress in seconds of video: what it says at a time that is given, as a line or beside a bar."""

import io
import os
import re
import subprocess
import sys
import threading

import pytest
from rich.console import Console

from tests.integration.commands import run_here
from tests.video_matrix import X264, Recipe, write_video
from vmr.progress import Reached, VideoProgress, duration_in_words, printable


class Clock:
    """A clock that moves only when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def started(clock, lengths, **options):
    progress = VideoProgress(False, clock=clock, **options)
    clock.now += 50.0  # what is before the start does not count
    progress.start(lengths)
    return progress


def test_a_sentence_by_hand(clock):
    progress = started(clock, {"/v/a.mp4": 200.0, "/v/cam/12.mp4": 4000.0, "/v/cam/c.mp4": 10.0})
    assert progress.sentence() == "0 s of 4210 s of video"
    progress.at("/v/a.mp4")
    clock.now += 5.0
    assert progress.sentence() == "0 s of 4210 s of video, now: a.mp4"
    progress.at("/v/a.mp4", 120.0)
    clock.now += 10.0
    # 120 s in 15 s; 4090 s are left, which take 511 s.
    assert progress.sentence() == "120 s of 4210 s of video, 8.0 x real time, about 9 min left, now: a.mp4"
    progress.video_done("/v/a.mp4", 200.0)
    progress.at("/v/cam/12.mp4", 112.0)
    progress.at("/v/cam/c.mp4", 3.0)  # two workers
    progress.at("/v/cam/12.mp4", 113.0)
    clock.now += 5.0
    assert progress.sentence() == "316 s of 4210 s of video, 15.8 x real time, about 4 min left, now: cam/12.mp4"
    assert progress.fraction() == pytest.approx(316 / 4210)
    progress.video_done("/v/cam/12.mp4", 4000.0)
    clock.now += 19.0
    progress.video_done("/v/cam/c.mp4", 10.0)
    assert progress.sentence() == "4210 s of 4210 s of video, 108 x real time, 39 s in all"
    assert progress.fraction() == 1.0


def test_a_program_may_follow_in_numbers(clock):
    told = []
    progress = started(clock, {"/v/a.mp4": 30.0, "/v/b.mp4": None}, follow=lambda seen: told.append(seen.reached()))
    assert told == [Reached(0, 2, 0.0, 60.0, None, None, "")]
    clock.now += 5.0
    progress.at("/v/a.mp4", 10.0)
    assert told[-1] == Reached(0, 2, 10.0, 60.0, 2.0, 25.0, "/v/a.mp4")
    progress.video_done("/v/a.mp4", 20.0)
    progress.video_done("/v/b.mp4", 0.0)
    assert told[2:] == [
        Reached(1, 2, 20.0, 40.0, 4.0, 5.0, "/v/a.mp4"),
        Reached(2, 2, 20.0, 20.0, 4.0, None, "/v/a.mp4"),
    ]


def test_what_videos_really_were_replaces_what_they_stated(clock):
    progress = started(clock, {"a": 100.0, "b": 95_000.0, "c": 100.0})
    assert progress.sentence() == "0.0 h of 26.4 h of video"
    progress.video_done("b", 5.0)
    progress.video_done("a", 0.0)  # it failed
    clock.now += 100.0
    assert progress.sentence() == "5 s of 105 s of video, 0.05 x real time, about 33 min left"


def test_unknown_lengths_are_those_of_the_others_on_average(clock):
    progress = started(clock, {"a": 30.0, "b": None, "c": 50.0, "d": None})
    assert progress.sentence() == "0 s of about 160 s of video"
    clock.now += 10.0
    progress.video_done("b", 100.0)  # 180 s of three videos
    assert progress.sentence() == "100 s of about 240 s of video, 10.0 x real time, about 14 s left"
    progress.at("d", 60.0)
    progress.video_done("a", 30.0)
    assert progress.sentence() == "190 s of about 240 s of video, 19.0 x real time, about 3 s left, now: d"
    progress.video_done("d", 60.0)
    assert progress.sentence() == "190 s of 240 s of video, 19.0 x real time, about 3 s left, now: d"


def test_where_no_length_is_known_videos_are_counted(clock):
    progress = started(clock, {"a": None, "b": None, "c": None})
    progress.at("a", 12.0)
    clock.now += 8.0
    assert progress.sentence() == "12 s of video, 0 of 3 videos, 1.5 x real time, now: a"
    assert progress.fraction() == 0.0
    progress.video_done("a", 0.0)
    assert progress.sentence() == "0 s of video, 1 of 3 videos, now: a"
    assert progress.fraction() == pytest.approx(1 / 3)


def test_a_video_may_last_longer_than_it_states(clock):
    progress = started(clock, {"a": 10.0, "b": 10.0})
    progress.at("a", 15.0)
    progress.at("b", 15.0)
    clock.now += 3.0
    assert progress.sentence() == "30 s of 20 s of video, 10.0 x real time, about 0 s left, now: b"
    assert progress.fraction() == 1.0


def test_names_stay_in_one_line_whatever_they_hold(clock):
    progress = started(clock, {"/v/two\nlines.mp4": 1.0, "/v/\x1b[31mred[bold].mp4": 1.0})
    progress.at("/v/two\nlines.mp4")
    assert progress.sentence().endswith("now: two\\nlines.mp4")
    assert printable("a\tb\x1b") == "a\\tb\\x1b"


def test_videos_of_no_common_folder_are_named_as_given(clock):
    progress = started(clock, {"a/x.mp4": 1.0, "/b/y.mp4": 1.0})
    progress.at("a/x.mp4")
    assert progress.sentence().endswith("now: a/x.mp4")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (600, "10 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (360_000, "100.0 h"),
    ],
)
def test_lengths_of_time_in_words(seconds, words):
    assert duration_in_words(seconds) == words


def work(progress, clock):
    with progress:
        progress.start({"/v/a.mp4": 60.0, "/v/b.mp4": 40.0})
        progress.at("/v/a.mp4", 30.0)
        clock.now += 10.0
        progress.video_done("/v/a.mp4", 60.0)
        progress.video_done("/v/b.mp4", 40.0)


def test_nothing_is_printed_where_nothing_is_to_be_shown(clock, capfd):
    for shown, lengths in ((False, {"a": 1.0}), (True, {})):
        screen = io.StringIO()
        with VideoProgress(shown, console=Console(file=screen, force_terminal=True), every_s=0.001) as progress:
            progress.start(lengths)
            progress.at("a")
            progress.video_done("a", 1.0)
        assert screen.getvalue() == ""
    work(VideoProgress(False, clock=clock, every_s=0.001), clock)
    with VideoProgress(True):  # nothing was started
        pass
    assert capfd.readouterr() == ("", "")


def test_without_a_terminal_there_is_a_last_line_on_standard_error(clock, capfd):
    work(VideoProgress(True, clock=clock, console=Console(file=io.StringIO())), clock)
    assert capfd.readouterr() == ("", "100 s of 100 s of video, 10.0 x real time, 10 s in all\n")


def test_without_a_terminal_lines_come_at_equal_times_also_when_nothing_moves(clock, capfd):
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt), VideoProgress(True, clock=clock, every_s=0.05) as progress:
        progress.start({"/v/a.mp4": 60.0})
        progress.at("/v/a.mp4", 6.0)
        clock.now += 3.0
        threading.Event().wait(0.6)
        raise KeyboardInterrupt
    assert threading.active_count() == threads
    lines = capfd.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 13
    assert set(lines) == {"6 s of 60 s of video, 2.0 x real time, about 27 s left, now: a.mp4"}


def test_on_a_terminal_there_is_a_bar_and_no_line(clock, capfd):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, color_system=None)
    work(VideoProgress(True, clock=clock, console=console, every_s=0.001), clock)
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", screen.getvalue())
    assert "━" * 20 + " 100 s of 100 s of video, 10.0 x real time, 10 s in all" in text
    assert capfd.readouterr() == ("", "")


def test_threads_may_share_it(clock):
    lengths = {f"/v/{number}.mp4": None if number % 3 == 0 else 2.0 for number in range(2000)}
    progress = started(clock, lengths)
    paths = iter(list(lengths))
    lock = threading.Lock()

    def run():
        while True:
            with lock:
                path = next(paths, None)
            if path is None:
                return
            progress.at(path, 1.0)
            progress.sentence()
            progress.video_done(path, 2.0)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clock.now += 4.0
    assert progress.sentence() == "4000 s of 4000 s of video, 1000 x real time, 4 s in all"


def test_a_build_tells_how_far_it_is(tmp_path):
    (tmp_path / "videos").mkdir()
    for number in range(3):
        write_video(tmp_path / f"videos/{number}.mp4", Recipe(options=X264, num_frames=50))
    (tmp_path / "videos/3.mp4").write_text("no video")
    build = ("vmr-index", "build", tmp_path / "videos", "--out", tmp_path / "index", "--num-workers", "1")
    done = run_here(*build, "--encoder", "videomamba-nano-shapes")
    (line,) = [line for line in done.stderr.splitlines() if "real time" in line]
    assert re.fullmatch(r"6 s of 6 s of video, [\d.]+ x real time, \d+ s in all", line)
    assert "real time" not in run_here(*build).stderr  # nothing is left to do


def test_what_is_printed_beside_a_bar_goes_into_a_file():
    """On a terminal for errors alone, rich would send it there."""
    script = "from vmr.progress import progress_bar\nwith progress_bar(True) as bar:\n    print('result')"
    terminal, other_end = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=other_end,
            env={**os.environ, "TERM": "xterm"},
            check=True,
        )
    finally:
        os.close(other_end)
        os.close(terminal)
    assert done.stdout == b"result\n"
