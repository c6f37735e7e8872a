"""From uploaded files to frames, as a decoding process does it: what is taken, and what is refused undecoded."""

import io
import struct
import tempfile
import zlib
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from vmr.data.decoding.segments import FrameSpec, read_segments
from vmr.errors import VideoError
from vmr.retrieval.service.uploads import receiving
from vmr.retrieval.service.uploads.decoding import read_upload

SPEC = FrameSpec(num_frames=4, size=32)
RED, GREEN, BLUE, WHITE = (200, 30, 30), (30, 180, 30), (30, 30, 200), (240, 240, 240)


def decode(path: Path, pixels: int = 10_000_000, seconds: float = 20.0, spec: FrameSpec = SPEC):
    values, arrays = read_upload({"path": str(path), "spec": asdict(spec), "pixels": pixels, "seconds": seconds})
    return values, arrays[0] if arrays else None


def four_corners() -> Image.Image:
    """A picture of 64x48 whose corners have four colours, so that every turn of it looks different."""
    image = Image.new("RGB", (64, 48))
    for colour, left, top in ((RED, 0, 0), (GREEN, 32, 0), (BLUE, 0, 24), (WHITE, 32, 24)):
        image.paste(colour, (left, top, left + 32, top + 24))
    return image


def corners(frame: np.ndarray) -> list[tuple[int, ...]]:
    """The colours near the corners of a frame (3, S, S), by rows."""
    near = [(4, 4), (4, -5), (-5, 4), (-5, -5)]
    return [tuple(int(value) for value in frame[:, row, column]) for row, column in near]


def assert_colours(found: list[tuple[int, ...]], wanted: list[tuple[int, ...]]) -> None:
    assert np.abs(np.array(found) - np.array(wanted)).max() <= 12, (found, wanted)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds a few pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def gif_header(width: int, height: int) -> bytes:
    """A GIF that claims a size for its screen and for its picture."""
    screen = struct.pack("<6sHHBBB", b"GIF89a", width, height, 0x80, 0, 0) + bytes(6)
    return screen + struct.pack("<BHHHHB", 0x2C, 0, 0, width, height, 0) + b"\x02\x02\x44\x01\x00\x3b"


def make_clip(path: Path, seconds: float, fps: int = 10, size: tuple[int, int] = (64, 48)) -> Path:
    """A clip whose brightness grows from frame to frame."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = Fraction(1, fps)
        number = round(seconds * fps)
        for index in range(number):
            shade = np.full((size[1], size[0], 3), 20 + 200 * index // max(1, number), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_a_picture_is_a_still_video(tmp_path: Path, kind: str):
    path = tmp_path / "picture.mp4"  # the name says nothing
    four_corners().save(path, kind, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))
    values, frames = decode(path)
    assert values == {"kind": "picture"}
    assert frames.shape == (4, 3, 32, 32)
    assert frames.dtype == np.uint8
    assert (frames == frames[0]).all()
    assert_colours(corners(frames[0]), [RED, GREEN, BLUE, WHITE])


def test_a_picture_gives_the_frames_of_a_picture_file(tmp_path: Path):
    """What a picture shows does not depend on the way it came: the frames are those that `vmr.read_video` takes."""
    path = tmp_path / "picture.png"
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(noise).save(path)
    _, frames = decode(path)
    (segment,) = read_segments(path, SPEC)
    np.testing.assert_array_equal(frames, segment.video)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(tmp_path: Path, kind: str, orientation: int):
    stored = four_corners()
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    if orientation in back:
        stored = stored.transpose(back[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned"
    stored.save(path, kind, exif=exif)
    _, frames = decode(path)
    assert_colours(corners(frames[0]), [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_grey(tmp_path: Path, mode: str):
    image = Image.new("RGBA", (64, 64), (250, 250, 250, 0))
    image.paste((250, 250, 250, 255), (0, 0, 64, 32))
    path = tmp_path / "transparent.png"
    image.convert(mode).save(path)
    _, frames = decode(path)
    assert_colours(corners(frames[0]), [(250,) * 3, (250,) * 3, (128,) * 3, (128,) * 3])


@pytest.mark.parametrize(
    ("mode", "value"), [("I;16", 40_000), ("L", 156), ("1", 1), ("CMYK", (0, 100, 255, 0)), ("F", 0.6)]
)
def test_other_kinds_of_pixels(tmp_path: Path, mode: str, value: object):
    kind = "PNG" if mode in ("I;16", "L", "1") else "TIFF"
    path = tmp_path / "picture"
    Image.new(mode, (40, 40), value).save(path, kind)
    _, frames = decode(path)
    wanted = {"I;16": (156,) * 3, "L": (156,) * 3, "1": (255,) * 3, "CMYK": (255, 155, 0), "F": (153,) * 3}[mode]
    assert_colours(corners(frames[0]), [wanted] * 4)


def test_a_large_picture_is_reduced_and_shows_the_same(tmp_path: Path):
    large = four_corners().resize((1600, 1200), Image.Resampling.NEAREST)
    large.save(tmp_path / "large.png")
    _, frames = decode(tmp_path / "large.png")
    assert_colours(corners(frames[0]), [RED, GREEN, BLUE, WHITE])


def test_a_clip_gives_the_frames_of_a_whole_video(tmp_path: Path):
    path = make_clip(tmp_path / "clip.mp4", 3.0)
    values, frames = decode(path)
    (segment,) = read_segments(path, SPEC)
    assert values == {"kind": "clip"}
    np.testing.assert_array_equal(frames, segment.video)
    assert np.diff(frames.mean((1, 2, 3))).min() > 20, "the frames are from the whole of it"


def test_an_animation_is_a_clip(tmp_path: Path):
    shades = [Image.new("RGB", (40, 40), (shade,) * 3) for shade in range(0, 240, 30)]
    shades[0].save(tmp_path / "a.gif", save_all=True, append_images=shades[1:], duration=100)
    values, frames = decode(tmp_path / "a.gif")
    assert values == {"kind": "clip"}
    assert np.diff(frames.mean((1, 2, 3))).min() > 20


def test_key_frames_are_taken_where_the_index_takes_them(tmp_path: Path):
    path = make_clip(tmp_path / "clip.mp4", 5.0)
    spec = FrameSpec(4, 32, keyframes=True)
    _, frames = decode(path, spec=spec)
    (segment,) = read_segments(path, spec)
    np.testing.assert_array_equal(frames, segment.video)


@pytest.mark.parametrize(
    "content",
    [png_header(60_000, 60_000), gif_header(65_535, 65_535), png_header(2**31 - 1, 2**31 - 1)],
    ids=["png", "gif", "largest png"],
)
def test_a_picture_that_claims_to_be_huge_is_not_decoded(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)  # it would fail
    path = tmp_path / "bomb"
    path.write_bytes(content)
    values, frames = decode(path)
    assert frames is None
    assert values["status"] == 413
    assert "10 million pixels" in values["reason"]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "GIF"])
def test_a_bomb_is_not_decoded(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    """A sound file of few bytes and very many pixels."""
    path = tmp_path / "bomb"
    Image.new("L", (4000, 3000)).save(path, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    assert path.stat().st_size < 200_000
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    values, _ = decode(path)
    assert values["status"] == 413


def test_a_clip_with_large_pictures_is_refused(tmp_path: Path):
    path = make_clip(tmp_path / "clip.mp4", 0.2, size=(640, 480))
    values, _ = decode(path, pixels=300_000)
    assert values["status"] == 413


def test_a_long_clip_is_refused(tmp_path: Path):
    values, _ = decode(make_clip(tmp_path / "clip.mp4", 3.0), seconds=2.5)
    assert values == {"status": 413, "reason": "it is longer than 2.5 s: send a shorter clip"}


def test_a_clip_that_lies_about_its_length_is_refused(tmp_path: Path):
    """Its header says one second. Its packets are an hour apart."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(8):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = 3600 * 10 * index, Fraction(1, 10)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    for box, timescale_at in ((b"mvhd", 12), (b"mdhd", 12)):
        at = data.index(box) + 4
        (timescale,) = struct.unpack(">I", data[at + timescale_at : at + timescale_at + 4])
        data[at + timescale_at + 4 : at + timescale_at + 8] = struct.pack(">I", timescale)
    path.write_bytes(data)
    with av.open(str(path)) as lying:
        assert lying.streams.video[0].duration * lying.streams.video[0].time_base == 1
    values, _ = decode(path)
    assert values["status"] == 413
    assert "longer than 20 s" in values["reason"]


OTHERS = {
    "text": b"just a text\n",
    "html": b"<html><script>alert(1)</script></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="1000000" height="1000000"/>',
    "pdf": b"%PDF-1.7\n" + bytes(2000),
    "zip": b"PK\x03\x04" + bytes(2000),
    "noise": np.random.default_rng(1).bytes(50_000),
    "playlist": b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:10,\nfile:///etc/passwd\n",
    "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "heic": struct.pack(">I4s4s", 24, b"ftyp", b"heic") + bytes(2000),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_refused(tmp_path: Path, name: str):
    path = tmp_path / "file.png"
    path.write_bytes(OTHERS[name])
    values, frames = decode(path)
    assert frames is None
    assert values["status"] == 415


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_picture_is_damaged(tmp_path: Path, kind: str, share: float):
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    Image.fromarray(noise).save(whole, kind)
    path = tmp_path / "cut"
    path.write_bytes(whole.getvalue()[: int(share * len(whole.getvalue()))])
    try:
        values, frames = decode(path)
    except VideoError as error:
        assert "damaged" in error.reason
        assert "\n" not in error.reason
    else:
        assert frames is None
        assert values["status"] == 415  # not even its header is whole


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "clip"])
def test_flipped_bits_never_fail_in_another_way(tmp_path: Path, kind: str):
    if kind == "clip":
        whole = make_clip(tmp_path / "clip.mp4", 0.5).read_bytes()
    else:
        picture = io.BytesIO()
        four_corners().save(picture, kind)
        whole = picture.getvalue()
    rng = np.random.default_rng(7)
    for _ in range(40):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 4):
            data[place] ^= 1 << int(rng.integers(8))
        path = tmp_path / "flipped"
        path.write_bytes(data)
        try:
            values, frames = decode(path)
        except VideoError:
            continue
        assert frames is not None or values["status"] in (413, 415)


def test_a_truncated_clip_is_refused(tmp_path: Path):
    path = make_clip(tmp_path / "clip.mp4", 1.0)
    path.write_bytes(path.read_bytes().partition(b"moov")[0][:-4])
    with pytest.raises(VideoError, match="moov"):
        decode(path)


def test_a_picture_that_is_also_something_else_is_a_picture(tmp_path: Path):
    """A zip archive, or a page with a script, behind the end of a picture changes nothing."""
    whole = io.BytesIO()
    four_corners().save(whole, "PNG")
    path = tmp_path / "both"
    for other in (b"PK\x03\x04", b"<script>alert(1)</script>", make_clip(tmp_path / "clip.mp4", 0.5).read_bytes()):
        path.write_bytes(whole.getvalue() + other)
        values, frames = decode(path)
        assert values == {"kind": "picture"}
        assert_colours(corners(frames[0]), [RED, GREEN, BLUE, WHITE])


def test_a_narrow_picture_is_refused(tmp_path: Path):
    Image.new("RGB", (5000, 2)).save(tmp_path / "narrow.png")
    with pytest.raises(VideoError, match="too narrow"):
        decode(tmp_path / "narrow.png")


@pytest.mark.parametrize("is_linux", [True, False])
def test_the_path_of_an_upload_ends_with_it(tmp_path: Path, is_linux: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if not is_linux:
        monkeypatch.setattr(receiving, "_PROCESSES", tmp_path / "nothing")
    with tempfile.SpooledTemporaryFile() as file:
        file.write(b"what it holds")
        file.rollover()
        file.flush()
        with receiving.path_of(file) as path:
            assert path.read_bytes() == b"what it holds"
    assert not path.exists()
    assert list(tmp_path.iterdir()) == []
