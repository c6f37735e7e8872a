"""Videos in a real browser: at every time it shows the picture that `VideoReader` gives for that time."""

import base64
import io
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

import vmr
from tests.films import write_film
from tests.patience import PATIENCE_S
from tests.services import serving
from tests.video_matrix import PATCHES, RECIPES, X264, Recipe, number_of, write_video
from vmr.data.decoding.sampling import shown_at
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import Video

DRAW = """async ([url, time]) => {
  const video = document.createElement('video');
  const failed = new Promise((_, no) => video.onerror = () => no(new Error(video.error.message)));
  const event = name => Promise.race([new Promise(yes => video.addEventListener(name, yes, {once: true})), failed]);
  document.body.append(video);
  video.muted = true;
  video.src = url;
  await event('loadeddata');
  const drawn = new Promise(yes => video.requestVideoFrameCallback(yes));
  video.currentTime = time;
  await event('seeked');
  await Promise.race([drawn, failed]);
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext('2d').drawImage(video, 0, 0);
  const at = video.currentTime;
  video.remove();
  video.removeAttribute('src');
  video.load();
  return [canvas.toDataURL('image/png'), at];
}"""

CLOSED = {"preset": "fast", "x264-params": "bframes=4:open-gop=0"}  # pictures that are stored in another order
STAND_ALONE = Recipe(options=CLOSED, num_frames=100, gop=24)

RECIPES_HERE = {
    "plain.mp4": RECIPES["h264_gop12"],
    "reordered.mp4": STAND_ALONE,
    "uneven.mp4": RECIPES["h264_vfr"],
    "vp9.webm": RECIPES["vp9"],
    "fragmented.mp4": replace(STAND_ALONE, muxing={"movflags": "frag_keyframe+empty_moov"}),
    "fragmented_at_0.mp4": replace(RECIPES["h264_gop12"], muxing={"movflags": "frag_keyframe+empty_moov"}),
    "broadcast.ts": replace(STAND_ALONE, suffix=".ts"),
    "no_index.mkv": replace(STAND_ALONE, suffix=".mkv", seekable=False),
    "cover.mp4": RECIPES["h264_cover"],
    "open_gop.mp4": RECIPES["h264_open_gop"],
    "no_key_frames.mkv": RECIPES["h264_intra_refresh"],
    "ten_bits.mp4": RECIPES["h264_10bit"],
    "hevc.mp4": RECIPES["hevc"],
    "mpeg2.ts": RECIPES["mpeg2_ts"],
    "mpeg4.avi": RECIPES["mpeg4_avi_bframes"],
    "windows.wmv": RECIPES["wmv2"],
    "animation.gif": RECIPES["gif"],
}
FILMS_HERE: dict[str, dict] = {
    "sound.mp4": {"sound": "aac"},
    "late.mp4": {"sound": "aac", "delay_s": 1.5},
    "two_streams.mp4": {"others": 1},
    "ac3.mp4": {"sound": "ac3"},
    "long.mkv": {"num_frames": 700, "fps": 10, "sound": "aac", "gop": 37},
    "very_long.mkv": {"num_frames": 200, "fps": Fraction(1, 5), "codec": "mpeg4", "options": {}},
}
PATCHES_HERE = {
    "edit_list.mp4": STAND_ALONE,
    "ts_begins_late.ts": RECIPES["h264_ts"],
    "rotated_90.mp4": Recipe(options=X264, stored=np.rot90),
    "mirrored.mp4": Recipe(options=X264, stored=np.fliplr),
}
KINDS = {
    **dict.fromkeys(("plain.mp4", "reordered.mp4", "uneven.mp4", "vp9.webm", "sound.mp4"), "file"),
    **dict.fromkeys(("edit_list.mp4", "rotated_90.mp4", "fragmented_at_0.mp4"), "file"),
    **dict.fromkeys(("fragmented.mp4", "broadcast.ts", "no_index.mkv", "cover.mp4", "late.mp4"), "remuxed"),
    **dict.fromkeys(("two_streams.mp4", "ac3.mp4", "long.mkv"), "remuxed"),
    **dict.fromkeys(("open_gop.mp4", "no_key_frames.mkv", "ten_bits.mp4", "hevc.mp4", "mpeg2.ts"), "transcoded"),
    **dict.fromkeys(("mpeg4.avi", "windows.wmv", "animation.gif", "very_long.mkv"), "transcoded"),
    **dict.fromkeys(("ts_begins_late.ts", "mirrored.mp4"), "transcoded"),
}
"""File -> how it is played."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder, made = tmp_path_factory.mktemp("videos"), tmp_path_factory.mktemp("sources")
    for name, options in FILMS_HERE.items():
        write_film(folder / name, **options)
    for name, recipe in RECIPES_HERE.items():
        write_video(folder / name, recipe)
    for name, source in PATCHES_HERE.items():
        _, patch = PATCHES[Path(name).stem]
        patch(write_video(made / name, source), folder / name)
    return folder


@pytest.fixture(scope="module")
def index(videos: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "index"
    vmr.build_index(videos, folder, "videomamba-nano-shapes", window_s=None)
    return folder


@pytest.fixture(scope="module")
def indexed(index: Path) -> dict[str, Video]:
    with closing(IndexReader(index)) as reader, reader.snapshot() as snapshot:
        return {video.path: video for video in snapshot.videos()}


@pytest.fixture(scope="module")
def address(index: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VMR_CACHE", str(index.parent / "cache"))
        with serving(index) as address:
            yield address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture(scope="module")
def page(address: str):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.route(f"{address}/a-page", lambda route: route.fulfill(body="<p>a page", content_type="text/html"))
        page.goto(f"{address}/a-page")
        yield page
        browser.close()


def shown(page, url: str, time_s: float) -> tuple[int, float]:
    """The number of the picture that the browser shows at a time, and its current time."""
    data, at_s = page.evaluate(DRAW, [url, time_s])
    picture = Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("RGB")
    return number_of(np.asarray(picture).transpose(2, 0, 1)), at_s


@pytest.mark.parametrize("name", KINDS)
def test_the_browser_shows_what_was_indexed(page, client, address, videos, indexed, name):
    video = indexed[name]
    with vmr.VideoReader(videos / name) as reader:
        ends_s = [*reader.timestamps_s[1:], reader.duration_s]
        middles_s = (reader.timestamps_s + ends_s) / 2
        wanted = [0, 1, len(middles_s) // 3, (len(middles_s) * 3) // 4, len(middles_s) - 1]
        times_s = middles_s[wanted]
        numbers = [number_of(frame) for frame in reader.frames_at(shown_at(reader.timestamps_s, times_s).tolist())]
    assert -1 not in numbers
    for number, time_s in zip(numbers, times_s.tolist(), strict=True):
        answer = client.get(f"/api/v1/videos/{video.id}/playback", params={"at_s": time_s})
        assert answer.status_code == 200, answer.text
        playback = answer.json()
        assert playback["kind"] == KINDS[name]
        assert playback["until_s"] is None or playback["until_s"] > time_s
        current_s = time_s + playback["offset_s"]
        got, at_s = shown(page, address + playback["url"], current_s)
        assert at_s == pytest.approx(current_s, abs=0.001)
        assert got == number, (time_s, playback)
