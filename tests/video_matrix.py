"""Small video files of many kinds, made with PyAV, each frame carrying its number in black and white blocks.

`write_matrix(folder)` writes the readable files, `write_unreadable(folder)` files that no reader can read.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np

os.environ.setdefault("SVT_LOG", "-1")  # the AV1 encoder's log would drown the test report

FPS = 25
HEIGHT, WIDTH = 112, 192
BLOCK = 16  # pixels; WIDTH / BLOCK = 12 blocks
BITS = 10  # of the number; the other two blocks are its parity and the parity's opposite


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A moving pattern with `number` in the blocks of its top rows: uint8 (H, W, 3)."""
    y, x = np.mgrid[:height, :width]
    wave = np.stack(
        [np.sin((x + 3 * number) / 17), np.cos((y - 2 * number) / 13), np.sin((x + y + number) / 29)], axis=-1
    )
    frame = (127 + 90 * wave).astype(np.uint8)
    bits = [number >> bit & 1 for bit in range(BITS)]
    parity = sum(bits) % 2
    for block, bit in enumerate([*bits, parity, 1 - parity]):
        frame[:BLOCK, block * BLOCK : (block + 1) * BLOCK] = 255 * bit
    return frame


def number_of(rgb: np.ndarray) -> int:
    """The number in a picture (3, H, W) of any scale; -1 if the blocks hold none."""
    height, width = rgb.shape[1] * BLOCK // HEIGHT, rgb.shape[2] // (WIDTH // BLOCK)
    blocks = rgb[:, :height].mean(axis=0)[height // 4 : -height // 4]
    levels = blocks.reshape(len(blocks), WIDTH // BLOCK, width)[:, :, width // 4 : -width // 4].mean(axis=(0, 2))
    if np.any((levels > 70) & (levels < 185)):
        return -1
    *bits, parity, opposite = (levels > 127).astype(int).tolist()
    if sum(bits) % 2 != parity or opposite == parity:
        return -1
    return sum(bit << place for place, bit in enumerate(bits))


@dataclass(frozen=True)
class Recipe:
    """How to write a file: `codec` and the rest as FFmpeg names them."""

    codec: str = "libx264"
    suffix: str = ".mp4"
    num_frames: int = 60
    gop: int = 12
    pix_fmt: str = "yuv420p"
    options: dict = field(default_factory=dict)  # of the encoder
    muxing: dict = field(default_factory=dict)  # of the container
    bframes: int | None = None
    first_pts: int = 0
    variable_rate: bool = False
    seekable: bool = True
    cover: bool = False
    muxer: str | None = None  # as FFmpeg names it; by default the usual one for the suffix
    stored: Callable = np.asarray  # what is done to the picture before it is stored


class _WriteOnly:
    """A file without seeking, like a pipe, so that the container gets no index."""

    def __init__(self, file):
        self.write = file.write


X264 = {"preset": "ultrafast", "bf": "0"}
OPEN_GOP = {"preset": "fast", "x264-params": "open-gop=1:bframes=8:b-adapt=0:b-pyramid=normal:scenecut=0"}
FAST_X265 = {"preset": "ultrafast", "x265-params": "log-level=none:bframes=4:open-gop=1:pools=1"}

RECIPES = {
    "h264_gop12": Recipe(options=X264),
    "h264_gop250": Recipe(gop=250, num_frames=270, options={"preset": "fast"}),
    "h264_open_gop": Recipe(options=OPEN_GOP, num_frames=100, gop=24),
    "h264_intra": Recipe(options=X264, gop=1),
    "h264_intra_refresh": Recipe(options={"preset": "fast", "x264-params": "intra-refresh=1:bframes=0"}, suffix=".mkv"),
    "h264_10bit": Recipe(pix_fmt="yuv420p10le", options={"preset": "fast"}),
    "h264_444": Recipe(pix_fmt="yuv444p", options={"preset": "fast"}),
    "h264_interlaced": Recipe(options={"preset": "fast", "x264-params": "interlaced=1"}),
    "h264_vfr": Recipe(options={"preset": "fast"}, variable_rate=True),
    "h264_fragmented": Recipe(options=OPEN_GOP, muxing={"movflags": "frag_keyframe+empty_moov"}),
    "h264_ts": Recipe(options=OPEN_GOP, suffix=".ts"),
    "h264_avi_no_pts": Recipe(options=OPEN_GOP, suffix=".avi"),
    "h264_mkv_no_index": Recipe(options=OPEN_GOP, suffix=".mkv", seekable=False),
    "h264_negative_pts": Recipe(options=X264, suffix=".ts", first_pts=-60, muxing={"avoid_negative_ts": "disabled"}),
    "h264_cover": Recipe(options=X264, cover=True),
    "one_frame": Recipe(options=X264, num_frames=1),
    "hevc": Recipe("libx265", options=FAST_X265),
    "hevc_10bit": Recipe("libx265", suffix=".mkv", pix_fmt="yuv420p10le", options=FAST_X265),
    "hevc_radl": Recipe(
        "libx265", options={**FAST_X265, "x265-params": "log-level=none:bframes=4:open-gop=0:radl=2:pools=1"}
    ),
    "vp8_invisible": Recipe(
        "libvpx", suffix=".webm", options={"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}
    ),
    "vp9": Recipe(
        "libvpx-vp9", suffix=".webm", options={"cpu-used": "8", "lag-in-frames": "16", "deadline": "realtime"}
    ),
    "av1": Recipe("libsvtav1", num_frames=40, options={"preset": "12", "svtav1-params": "lp=1"}),
    "mpeg2_ts": Recipe("mpeg2video", suffix=".ts", bframes=2),
    "mpeg4_avi_bframes": Recipe("mpeg4", suffix=".avi", bframes=2),
    "wmv2": Recipe("wmv2", suffix=".wmv"),
    "gif": Recipe("gif", suffix=".gif", pix_fmt="rgb8"),
}


@contextmanager
def same_priority() -> Iterator[None]:
    """A context after which this thread is scheduled as before.

    For root, the AV1 encoder makes the thread that calls it a real-time one of the highest priority. All processes that
    the tests start later would inherit that, and starve the others for minutes.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def write_video(path: Path, recipe: Recipe = RECIPES["h264_gop12"], height: int = HEIGHT, width: int = WIDTH) -> Path:
    """Write recipe.num_frames pictures, numbered from 0, to `path`."""
    pictures = (np.ascontiguousarray(recipe.stored(picture(n, height, width))) for n in range(recipe.num_frames))
    with path.open("wb") as file, same_priority():
        target = str(path) if recipe.seekable else _WriteOnly(file)
        container_format = recipe.muxer if recipe.seekable else "matroska"
        with av.open(target, "w", format=container_format, options=recipe.muxing) as container:
            cover = container.add_stream("mjpeg", rate=1) if recipe.cover else None
            stream = container.add_stream(recipe.codec, rate=FPS, options=recipe.options)
            stream.height, stream.width = recipe.stored(picture(0, height, width)).shape[:2]
            stream.pix_fmt = recipe.pix_fmt
            stream.bit_rate = 1_500_000
            stream.codec_context.gop_size = recipe.gop
            stream.codec_context.thread_count = 1
            if recipe.bframes is not None:
                stream.codec_context.max_b_frames = recipe.bframes
            if recipe.variable_rate:
                stream.codec_context.time_base = Fraction(1, 1000)
            if cover is not None:
                _write_cover(container, cover)
            for number, rgb in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(rgb).reformat(format=recipe.pix_fmt)
                if recipe.variable_rate:
                    frame.pts, frame.time_base = _uneven_ms(number), Fraction(1, 1000)
                else:
                    frame.pts, frame.time_base = number + recipe.first_pts, Fraction(1, FPS)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def remux(source: Path, target: Path, change: Callable = lambda number, packet, step: None, title: str = "") -> Path:
    """A copy of a video in the container of `target`: `change` gets each packet, and how many ticks a picture takes."""
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        writing.metadata.update({"title": title} if title else {})
        stream = reading.streams.video[0]
        copy = writing.add_stream_from_template(stream)
        step = round(1 / stream.average_rate / stream.time_base)
        for number, packet in enumerate([packet for packet in reading.demux(stream) if packet.size]):
            change(number, packet, step)
            packet.stream = copy
            writing.mux(packet)
    return target


def _uneven_ms(number: int) -> int:
    return 40 * number + 10 * (number % 3) + (1000 if number >= 30 else 0)


def _write_cover(container, cover):
    cover.height, cover.width, cover.pix_fmt = 240, 320, "yuvj420p"
    cover.disposition = av.stream.Disposition.attached_pic
    frame = av.VideoFrame.from_ndarray(np.full((240, 320, 3), 200, np.uint8)).reformat(format="yuvj420p")
    frame.pts, frame.time_base = 0, Fraction(1, 1)
    container.mux(cover.encode(frame))
    container.mux(cover.encode(None))


def patch_matrix(source: Path, target: Path, a: int, b: int, c: int, d: int) -> Path:
    """A copy of an mp4 whose track header says: show the point (x, y) at (ax + cy, bx + dy)."""
    data = bytearray(source.read_bytes())
    matrix = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    start = data.index(b"tkhd") + 4 + 40  # version 0: the matrix is 40 bytes into the box
    data[start : start + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    target.write_bytes(data)
    return target


def patch_edit_list(source: Path, target: Path, num_hidden: int) -> Path:
    """A copy of an mp4 whose edit list hides the first frames."""
    data = bytearray(source.read_bytes())

    def number(name: bytes, offset: int) -> tuple[int, int]:
        place = data.index(name) + 4 + offset
        return place, int.from_bytes(data[place : place + 4], "big")

    _, movie_scale = number(b"mvhd", 12)
    _, media_scale = number(b"mdhd", 12)
    for name, offset, change in (
        (b"elst", 8, -num_hidden * movie_scale // FPS),  # how long it is shown
        (b"elst", 12, num_hidden * media_scale // FPS),  # where showing begins
    ):
        place, value = number(name, offset)
        data[place : place + 4] = (value + change).to_bytes(4, "big")
    target.write_bytes(data)
    return target


def cut(source: Path, target: Path, start: float = 0.0, stop: float = 1.0, unit: int = 1) -> Path:
    """A copy that holds only the bytes between two fractions of the file, in whole units."""
    data = source.read_bytes()
    target.write_bytes(data[int(len(data) * start) // unit * unit : int(len(data) * stop) // unit * unit])
    return target


PATCHES = {
    "rotated_90": ("stored_90_back", partial(patch_matrix, a=0, b=1, c=-1, d=0)),
    "rotated_180": ("stored_180_back", partial(patch_matrix, a=-1, b=0, c=0, d=-1)),
    "rotated_270": ("stored_270_back", partial(patch_matrix, a=0, b=-1, c=1, d=0)),
    "mirrored": ("stored_mirrored", partial(patch_matrix, a=-1, b=0, c=0, d=1)),
    "edit_list": ("h264_open_gop", partial(patch_edit_list, num_hidden=17)),
    "ts_begins_late": ("h264_ts", partial(cut, start=0.4, unit=188)),
    "mpeg2_ts_begins_late": ("mpeg2_ts", partial(cut, start=0.4, unit=188)),
    "mkv_truncated": ("h264_mkv_no_index", partial(cut, stop=0.6)),
    "avi_truncated": ("mpeg4_avi_bframes", partial(cut, stop=0.6)),
    "mp4_truncated": ("h264_index_first", partial(cut, stop=0.6)),
}
MATRIX = [*RECIPES, *PATCHES]

# Suffix -> muxer, codec and options of the container, for every other suffix that videos have.
_CONTAINERS = {
    ".mts": ("mpegts", "mpeg2video", {}),
    ".m2ts": ("mpegts", "libx264", {"mpegts_m2ts_mode": "1"}),
    ".m2t": ("mpegts", "mpeg2video", {}),
    ".3gp": ("3gp", "libx264", {}),
    ".3gpp": ("3gp", "mpeg4", {}),
    ".3g2": ("3g2", "mpeg4", {}),
    ".mpg": ("mpeg", "mpeg2video", {}),
    ".mpeg": ("mpeg", "mpeg1video", {}),
    ".mpe": ("mpeg", "mpeg1video", {}),
    ".vob": ("vob", "mpeg2video", {}),
    ".ogv": ("ogg", "libvpx", {}),
    ".ogm": ("ogg", "libvpx", {}),
    ".mxf": ("mxf", "mpeg2video", {}),
    ".asf": ("asf", "wmv2", {}),
    ".rm": ("rm", "rv20", {}),
    ".rmvb": ("rm", "rv10", {}),
    ".y4m": ("yuv4mpegpipe", "wrapped_avframe", {}),
    ".divx": ("avi", "mpeg4", {}),
    ".f4v": ("f4v", "libx264", {}),
    ".flv": ("flv", "flv", {}),
    ".m4v": ("ipod", "mpeg4", {}),
    ".mjpeg": ("mjpeg", "mjpeg", {}),
    ".mjpg": ("mjpeg", "mjpeg", {}),
    ".ivf": ("ivf", "libvpx", {}),
    ".nut": ("nut", "mpeg4", {}),
    ".wtv": ("wtv", "mpeg2video", {}),
    ".mov": ("mov", "mpeg4", {}),
    ".qt": ("mov", "mpeg4", {}),
    ".h264": ("h264", "libx264", {}),
    ".h265": ("hevc", "libx265", {}),
    ".hevc": ("hevc", "libx265", {}),
    ".m1v": ("mpeg1video", "mpeg1video", {}),
    ".m2v": ("mpeg2video", "mpeg2video", {}),
}
CONTAINERS = {
    suffix: Recipe(
        codec,
        suffix,
        num_frames=12,
        pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p",
        options=FAST_X265 if codec == "libx265" else {},
        muxing=muxing,
        muxer=muxer,
    )
    for suffix, (muxer, codec, muxing) in _CONTAINERS.items()
}
_SOURCES = {  # patched into something else, and no more than another plain file themselves
    "stored_90_back": Recipe(options=X264, stored=np.rot90),
    "stored_180_back": Recipe(options=X264, stored=partial(np.rot90, k=2)),
    "stored_270_back": Recipe(options=X264, stored=partial(np.rot90, k=3)),
    "stored_mirrored": Recipe(options=X264, stored=np.fliplr),
    "h264_index_first": Recipe(options=OPEN_GOP, num_frames=100, muxing={"movflags": "faststart"}),
}


def write_matrix(folder: Path) -> dict[str, Path]:
    """Every readable kind, by name. Kinds whose encoder this PyAV lacks are absent."""
    files = {}
    for name, recipe in RECIPES.items():
        try:
            av.codec.Codec(recipe.codec, "w")
        except ValueError:  # av.codec.codec.UnknownCodecError
            continue
        files[name] = write_video(folder / (name + recipe.suffix), recipe)
    sources = files | {name: write_video(folder / f"{name}.mp4", recipe) for name, recipe in _SOURCES.items()}
    for name, (of, patch) in PATCHES.items():
        files[name] = patch(sources[of], folder / (name + sources[of].suffix))
    return files


def write_unreadable(folder: Path) -> dict[str, Path]:
    """Files that are no videos, by name."""
    whole = write_video(folder / "whole.mp4")
    contents = {
        "zero.mp4": b"",
        "random.mp4": np.random.default_rng(0).bytes(50_000),
        "text.mp4": b"a man is cooking\n" * 500,
        "text.txt": b"a man is cooking\n" * 500,
        "playlist.m3u8": b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nwhole.mp4\n#EXT-X-ENDLIST\n",
        "script.ffconcat": b"ffconcat version 1.0\nfile whole.mp4\n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    files = {name: folder / name for name in contents}
    files["no_moov.mp4"] = cut(whole, folder / "no_moov.mp4", stop=0.5)
    files["sound.mp4"] = _write_sound(folder / "sound.mp4")
    files["still.png"] = _write_still(folder / "still.png")
    files["absent.mp4"] = folder / "absent.mp4"
    (folder / "folder.mp4").mkdir()
    files["folder.mp4"] = folder / "folder.mp4"
    return files


def write_hanging(path: Path) -> Path:
    """A file in which FFmpeg searches for hours: a Matroska file of some frames, and then a hole of many terabytes.

    The hole takes no room on the disk.
    """
    part = write_video(path.with_name("part.mkv"), Recipe(options=X264, num_frames=2, suffix=".mkv", seekable=False))
    part.rename(path)
    os.truncate(path, 1 << 43)
    return path


def _write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        tone = (8000 * np.sin(np.arange(16_000) / 10)).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _write_still(path: Path) -> Path:
    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width, encoder.pix_fmt, encoder.time_base = HEIGHT, WIDTH, "rgb24", Fraction(1, FPS)
    frame = av.VideoFrame.from_ndarray(picture(0))
    frame.pts = 0
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))
    return path
