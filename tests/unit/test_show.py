"""What `vmr-index info` and `list` say of an index."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.indexes import STATE, space
from tests.integration.commands import run_here
from vmr.retrieval.storage.records import IndexSettings, NewVideo
from vmr.retrieval.storage.writer import IndexWriter


def write(folder, settings, frames=None):
    """An index of a video whose size is known, and one whose size is not."""
    with IndexWriter(folder, settings) as writer, writer.commit() as changes:
        own = space()
        number = changes.add_space(replace(own, frames={**own.frames, **(frames or {})}))
        for name, width, height in (("a.mp4", 1280, 720), ("b.mp4", 0, 0)):
            vectors = {number: np.array([[1, 0]], np.float32)}
            spans = ((0.0, 61.25),)
            changes.put_video(
                NewVideo("/videos", name, b"", STATE, 61.25, (), spans, vectors, width=width, height=height)
            )
    return folder


def shown(*arguments) -> str:
    done = run_here("vmr-index", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("settings", "row"),
    [
        (IndexSettings(8.0, 4.0), "8 s every 4 s, 1 frames"),
        (IndexSettings(8.0, 4.0, whole_video=True), "8 s every 4 s and the whole video, 1 frames"),
        (IndexSettings(8.0, None, segments="shots"), "a shot of at most 8 s, 1 frames"),
        (IndexSettings(None, None), "the whole video, 1 frames"),
    ],
)
def test_info_says_how_videos_are_cut(tmp_path, settings, row):
    folder = write(tmp_path / "index", settings)
    assert row in shown("info", folder)
    told = json.loads(shown("info", folder, "--json"))
    assert (told["segments"], told["window_s"]) == (settings.segments, settings.window_s)
    assert (told["stride_s"], told["whole_video"]) == (settings.stride_s, settings.whole_video)
    assert told["roots"] == ["/videos"] and told["num_videos"] == 2


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (None, "any"),
        ({"keyframes": True}, "key frames only"),
        ({"skip_still": 0.02}, "any, those that differ by less than 0.02 once"),
        ({"keyframes": True, "skip_still": 0.1}, "key frames only, those that differ by less than 0.1 once"),
    ],
)
def test_info_says_which_frames_are_taken(tmp_path, frames, words):
    folder = write(tmp_path / "index", IndexSettings(8.0, 4.0), frames)
    (line,) = [line for line in shown("info", folder).splitlines() if line.split()[1:2] == ["frames"]]
    assert line.strip("│ ").removeprefix("frames").strip("│ ") == words
    told = json.loads(shown("info", folder, "--json"))
    expected = {"keyframes": False, "skip_still": 0.0, **(frames or {})}
    assert {name: told[name] for name in expected} == expected


def test_list_shows_the_size_of_pictures(tmp_path):
    folder = write(tmp_path / "index", IndexSettings(None, None))
    known, unknown = [line.strip("│ ") for line in shown("list", folder).splitlines() if ".mp4" in line]
    assert [cell.strip() for cell in known.split("│")] == ["0:01:01.3", "1280x720", "1", "/videos/a.mp4"]
    assert [cell.strip() for cell in unknown.split("│")] == ["0:01:01.3", "", "1", "/videos/b.mp4"]
    videos = json.loads(shown("list", folder, "--json"))["videos"]
    assert [(video["width"], video["height"]) for video in videos] == [(1280, 720), (None, None)]
