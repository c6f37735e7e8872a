"""Small films for the tests of the service: numbered pictures, with sound, delays and several streams."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.video_matrix import HEIGHT, WIDTH, picture

SAMPLES_PER_S = 48_000
BEEP_S = 0.2


def write_film(
    path: Path,
    num_frames: int = 100,
    fps: int | Fraction = 25,
    codec: str = "libx264",
    gop: int = 25,
    sound: str | None = None,
    beep_s: float = 2.0,
    delay_s: float = 0.0,
    others: int = 0,
    options: dict | None = None,
) -> Path:
    """Write a film.

    Args:
        path: of the file.
        num_frames: how many pictures it has, numbered from 0.
        fps: pictures per second.
        codec: of the pictures, as FFmpeg names it.
        gop: pictures from one key frame to the next.
        sound: codec of a silent sound with one beep; None for no sound.
        beep_s: when it beeps, in seconds from the beginning of the file.
        delay_s: how much later than the sound the pictures begin, in seconds.
        others: how many video streams of grey pictures stand before the numbered one, which is marked as the default.
        options: of the encoder.
    """
    with av.open(str(path), "w") as target:
        grey = [target.add_stream("libx264", rate=fps, options={"preset": "ultrafast"}) for _ in range(others)]
        for stream in grey:
            stream.height, stream.width, stream.pix_fmt = 16, 16, "yuv420p"
            stream.disposition = av.stream.Disposition(0)
        stream = target.add_stream(codec, rate=fps, options={"preset": "ultrafast"} if options is None else options)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.bit_rate = 1_500_000
        stream.codec_context.gop_size = gop
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.disposition = av.stream.Disposition.default
        track = None if sound is None else target.add_stream(sound, rate=SAMPLES_PER_S, layout="mono")
        for number in range(num_frames):
            for each in grey:
                dull = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 128, np.uint8)).reformat(format="yuv420p")
                dull.pts, dull.time_base = number, Fraction(1, fps)
                target.mux(each.encode(dull))
            frame = av.VideoFrame.from_ndarray(picture(number)).reformat(format="yuv420p")
            frame.pts, frame.time_base = round((number / fps + delay_s) * 1000), Fraction(1, 1000)
            target.mux(stream.encode(frame))
            if track is not None:
                target.mux(track.encode(_samples(number, fps, beep_s)))
        for each in (*grey, stream, *([] if track is None else [track])):
            target.mux(each.encode(None))
    return path


def _samples(number: int, fps: int, beep_s: float) -> av.AudioFrame:
    """The sound during a picture: silence, or a beep."""
    length = SAMPLES_PER_S // fps
    times = np.arange(number * length, (number + 1) * length) / SAMPLES_PER_S
    is_loud = (beep_s <= times) & (times < beep_s + BEEP_S)
    wave = (20_000 * np.sin(2 * np.pi * 1000 * times) * is_loud).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
    frame.pts, frame.rate, frame.time_base = number * length, SAMPLES_PER_S, Fraction(1, SAMPLES_PER_S)
    return frame


def beep_of(path: Path) -> float:
    """When a film begins to beep, in seconds of its own clock."""
    with av.open(str(path)) as film:
        for frame in film.decode(audio=0):
            samples = np.abs(frame.to_ndarray().astype(np.float64)).max(axis=0)
            loud = np.flatnonzero(samples > 0.3 * (1 if frame.format.name.startswith("flt") else 32768))
            if len(loud):
                return float(frame.pts * frame.time_base) + float(loud[0]) / frame.rate
    raise AssertionError("no beep")
