"""The synthetic benchmark: short videos of moving coloured shapes whose captions take a whole sentence to tell apart.

Every clip shows two movements, at once or one after the other, of one object or of two:

    a red circle moves slowly left while a blue square moves quickly up     (two objects, at once)
    a red circle moves slowly left before a blue square moves quickly up    (two objects, in turn, both visible)
    a red circle moves slowly left, then quickly up                         (one object, in turn)

Two rules make it a test of understanding rather than of memory. A third of all events (colour, shape, direction and
speed together) is held out: test clips are made of held-out events only, training clips of the others, so every word
of a test caption is known from training and no event is. And test clips come in twins whose captions differ in exactly
one aspect (order in time, direction, speed, colour or shape), so a model blind to that aspect can only guess between
the two.
"""

import json
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.errors import VmrError
from vmr.progress import progress_bar

VERSION = 1  # raise it when the same seed gives other clips or other pixels

SIZE = 96  # px, the side of the square picture
NUM_FRAMES = 16
FPS = 8
TURN = NUM_FRAMES // 2  # the frame from which on the second of two events in turn moves

COLORS = {
    "red": (230, 40, 40),
    "green": (40, 200, 60),
    "blue": (60, 90, 240),
    "yellow": (240, 220, 40),
    "purple": (170, 60, 210),
    "white": (240, 240, 240),
}
SHAPES = ("circle", "square", "triangle", "cross")
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
SPEEDS = {"slowly": 1.5, "quickly": 4.0}  # px per frame, so 12 and 32 px per second
WORDS: dict[str, tuple[str, ...]] = {
    "color": tuple(COLORS),
    "shape": SHAPES,
    "direction": tuple(DIRECTIONS),
    "speed": tuple(SPEEDS),
}
ASPECTS = ("order", "direction", "speed", "color", "shape")  # what the twins of the test split differ in

_RADIUS = (8.0, 11.0)  # px, smallest and largest; every shape fits in a square of twice the radius
_MAX_DRAWS = 10_000
_MAX_PAIR_DRAWS = 1_000
_MIN_CLIPS = 8

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class ShapeEvent:
    """One movement of one object; each attribute is one of its WORDS, else VmrError."""

    color: str
    shape: str
    direction: str
    speed: str

    def __post_init__(self) -> None:
        for attribute, words in WORDS.items():
            word = getattr(self, attribute)
            if word not in words:
                raise VmrError(f"unknown {attribute} '{word}': one of {', '.join(words)}")

    @property
    def object(self) -> tuple[str, str]:
        """Colour and shape, which tell the objects of a clip apart."""
        return self.color, self.shape


@dataclass(frozen=True)
class Clip:
    """Two events at once, or the first and then the second. Events of the same object are one object that turns.

    Two objects differ in colour, and one object changes its direction: VmrError otherwise.
    """

    first: ShapeEvent
    second: ShapeEvent
    at_once: bool

    def __post_init__(self) -> None:
        if self.one_object and self.at_once:
            raise VmrError(f"a {self.first.color} {self.first.shape} cannot make two movements at once")
        if self.one_object and self.first.direction == self.second.direction:
            raise VmrError(f"a single object must change its direction, not move {self.first.direction} twice")
        if not self.one_object and self.first.color == self.second.color:
            raise VmrError(f"two objects must differ in colour, not both be {self.first.color}")

    @property
    def one_object(self) -> bool:
        """Whether both events belong to the same object."""
        return self.first.object == self.second.object

    @property
    def meaning(self) -> object:
        """Equal for two clips exactly when each one's caption describes the other: "while" has no order."""
        events = (self.first, self.second)
        return frozenset(events) if self.at_once else events


@dataclass(frozen=True)
class ShapesSummary:
    """What `make_shapes` wrote: the folder, its annotation files and the number of clips in each."""

    out_dir: Path
    train_file: Path
    test_file: Path
    num_train: int
    num_test: int


def caption(clip: Clip) -> str:
    """Return the one sentence that describes `clip`."""
    first, second = clip.first, clip.second
    start = f"a {first.color} {first.shape} moves {first.speed} {first.direction}"
    if clip.one_object:
        return f"{start}, then {second.speed} {second.direction}"
    link = "while" if clip.at_once else "before"
    return f"{start} {link} a {second.color} {second.shape} moves {second.speed} {second.direction}"


def render_clip(clip: Clip, seed: int | Sequence[int] = 0) -> Frames:
    """Draw `clip`: uint8 in [0, 255], (T, 3, H, W) = (NUM_FRAMES, 3, SIZE, SIZE), the same frames for the same seed.

    The seed decides what the caption leaves open: sizes, starting places and the dark, slightly grainy background.
    Objects stay fully inside the picture and never touch. A direction is as seen: up is towards the first row.
    """
    rng = np.random.default_rng(seed)
    background = rng.integers(0, 60, (3, 1, 1)) + rng.integers(0, 12, (3, SIZE, SIZE))
    frames = np.repeat(background[None].astype(np.uint8), NUM_FRAMES, axis=0)  # (T, 3, H, W)
    moves = _moves(clip)
    radii = rng.uniform(*_RADIUS, size=len(moves))
    centers = _place(moves, radii, rng)
    events = (clip.first, clip.second)[: len(moves)]
    for event, radius, path in zip(events, radii, centers, strict=True):
        color = np.array(COLORS[event.color], dtype=np.uint8)[:, None]
        for frame, center in zip(frames, path, strict=True):
            frame[:, _mask(event.shape, center, radius)] = color
    return frames


def _moves(clip: Clip) -> NDArray[np.float64]:
    """Return each object's way from its starting place: px as (x, y), (num_objects, T, 2)."""
    frame = np.arange(NUM_FRAMES)
    before_turn, after_turn = np.minimum(frame, TURN), np.maximum(frame - TURN, 0)
    first_steps, second_steps = (frame, frame) if clip.at_once else (before_turn, after_turn)
    first, second = (
        SPEEDS[event.speed] * np.outer(steps, DIRECTIONS[event.direction])
        for event, steps in ((clip.first, first_steps), (clip.second, second_steps))
    )
    return np.stack([first + second]) if clip.one_object else np.stack([first, second])


def _place(moves: NDArray[np.float64], radii: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw starting places that keep the objects inside and apart; return the centres, px, (num_objects, T, 2)."""
    lowest = radii[:, None] - moves.min(axis=1)  # (num_objects, 2)
    highest = SIZE - 1 - radii[:, None] - moves.max(axis=1)
    for _ in range(_MAX_DRAWS):
        centers: NDArray[np.float64] = rng.uniform(lowest, highest)[:, None] + moves
        # The boxes of two objects are apart while their centres differ enough along one axis at least.
        if len(moves) == 1 or (abs(centers[0] - centers[1]).max(axis=1) > radii.sum() + 1).all():
            return centers
    raise VmrError(f"no room in {SIZE} px for two objects of radius {radii} that never touch")


def _mask(shape: str, center: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    """Return the pixels of one shape: bool, (H, W), within `radius` px of `center` along both axes."""
    x = np.arange(SIZE)[None, :] - center[0]
    y = np.arange(SIZE)[:, None] - center[1]
    across, along = abs(x) / radius, abs(y) / radius
    if shape == "circle":
        inside = across**2 + along**2 <= 1
    elif shape == "square":
        inside = np.maximum(across, along) <= 1
    elif shape == "triangle":  # its tip is on top
        inside = (2 * across <= 1 + y / radius) & (along <= 1)
    else:  # a cross
        inside = (np.minimum(across, along) <= 0.3) & (np.maximum(across, along) <= 1)
    return np.asarray(inside, dtype=np.bool_)


def make_shapes(
    out_dir: str | Path, num_clips: int = 200, seed: int = 0, test_fraction: float = 0.25, progress: bool = False
) -> ShapesSummary:
    """Write the benchmark to `out_dir`: H.264 videos, train.json and test.json, and meta.json with every attribute.

    The annotation files are lists of {"video": "videos/00000.mp4", "caption": "..."} with paths relative to `out_dir`.
    The same arguments give the same files with the same versions of numpy and PyAV. `num_clips` (at least 8) counts
    both splits; the test split has the even number of clips next below num_clips * test_fraction, at least 2.

    `out_dir` appears only when it is complete. Raises VmrError when it exists and is not an empty folder, and when the
    numbers cannot be served.
    """
    out_dir = Path(out_dir).resolve()
    _require_absent_or_empty(out_dir)
    num_test = _num_test(num_clips, test_fraction)
    if seed < 0:
        raise VmrError(f"seed must be 0 or more, got {seed}")
    rng = np.random.default_rng([VERSION, seed])
    train_events, test_events = _split_events(rng)
    train = _draw_train(train_events, num_clips - num_test, rng)
    test = _draw_twins(test_events, num_test, rng)

    # Written beside its final place and renamed at the end, so that a killed run leaves no half data set there.
    unfinished = out_dir.with_name(f".{out_dir.name}.{uuid.uuid4().hex}.part")
    try:
        (unfinished / "videos").mkdir(parents=True)
        _write(unfinished, train, test, seed, progress)
        if out_dir.exists():
            out_dir.rmdir()
        unfinished.rename(out_dir)
    except OSError as error:
        raise VmrError(f"{out_dir}: cannot write the data set: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return ShapesSummary(out_dir, out_dir / "train.json", out_dir / "test.json", len(train), len(test))


def _require_absent_or_empty(out_dir: Path) -> None:
    if out_dir.exists() and not out_dir.is_dir():
        raise VmrError(f"{out_dir}: is a file; name a new folder for the data set")
    if out_dir.is_dir() and any(out_dir.iterdir()):
        raise VmrError(f"{out_dir}: not empty; name a new folder, or remove what is in this one")


def _num_test(num_clips: int, test_fraction: float) -> int:
    if num_clips < _MIN_CLIPS:
        raise VmrError(f"num_clips must be at least {_MIN_CLIPS} to show every colour and direction, got {num_clips}")
    if not 0 < test_fraction < 1:
        raise VmrError(f"test_fraction must be between 0 and 1, got {test_fraction}")
    num_test = max(2, int(num_clips * test_fraction) // 2 * 2)
    num_train = num_clips - num_test
    if num_train < _MIN_CLIPS - 2:
        raise VmrError(f"test_fraction {test_fraction} leaves {num_train} training clips; {_MIN_CLIPS - 2} are needed")
    return num_test


def _split_events(rng: np.random.Generator) -> tuple[list[ShapeEvent], list[ShapeEvent]]:
    """Split all events at random into two thirds for training and one third held out for the test."""
    events = [ShapeEvent(*words) for words in product(*WORDS.values())]
    shuffled = [events[i] for i in rng.permutation(len(events))]
    num_held_out = len(events) // 3
    return shuffled[num_held_out:], shuffled[:num_held_out]


def _draw_train(events: list[ShapeEvent], num_clips: int, rng: np.random.Generator) -> list[Clip]:
    """Draw different clips of the training events that together show every word."""
    words = {word for words in WORDS.values() for word in words}
    for _ in range(_MAX_DRAWS):
        clips: list[Clip] = []
        taken: set[object] = set()
        for _ in range(num_clips):
            clips.append(_draw_new_clip(events, taken, rng))
            taken.add(clips[-1].meaning)
        shown = {word for clip in clips for event in (clip.first, clip.second) for word in asdict(event).values()}
        if shown == words:
            return clips
    raise VmrError(f"{num_clips} training clips are too few to show every colour, shape, direction and speed")


def _draw_twins(events: list[ShapeEvent], num_clips: int, rng: np.random.Generator) -> list[Clip]:
    """Draw different clips of the held-out events, in pairs (2n, 2n + 1) that differ in one aspect, aspects in turn."""
    clips: list[Clip] = []
    taken: set[object] = set()
    for aspect in islice(cycle(ASPECTS), num_clips // 2):
        clips += _draw_pair(events, aspect, taken, rng)
        taken |= {twin.meaning for twin in clips[-2:]}
    return clips


def _draw_pair(events: list[ShapeEvent], aspect: str, taken: set[object], rng: np.random.Generator) -> list[Clip]:
    """Draw a clip and one that differs from it in `aspect` alone, both of them new."""
    for _ in range(_MAX_PAIR_DRAWS):
        clip = _draw_new_clip(events, taken, rng)
        twins = _twins(clip, aspect, events, taken)
        if twins:
            return [clip, twins[rng.integers(len(twins))]]
    raise VmrError(f"cannot draw more than {len(taken)} different test clips; lower num_clips or test_fraction")


def _draw_new_clip(events: list[ShapeEvent], taken: set[object], rng: np.random.Generator) -> Clip:
    """Draw until a clip comes whose meaning is not in `taken`."""
    for _ in range(_MAX_DRAWS):
        clip = _draw_clip(events, rng)
        if clip is not None and clip.meaning not in taken:
            return clip
    raise VmrError(f"cannot draw more than {len(taken)} different clips for one split; lower num_clips")


def _draw_clip(events: list[ShapeEvent], rng: np.random.Generator) -> Clip | None:
    """Draw two events: 2 in 5 at once, 2 in 5 in turn, 1 in 5 of one object in turn. None if the two clash."""
    first = events[rng.integers(len(events))]
    kind = rng.choice(["at once", "in turn", "one object"], p=[0.4, 0.4, 0.2])
    partners = [event for event in events if (event.object == first.object) == (kind == "one object")]
    return _clip_or_none(first, partners[rng.integers(len(partners))], kind == "at once")


def _twins(clip: Clip, aspect: str, events: list[ShapeEvent], taken: set[object]) -> list[Clip]:
    """Return the new clips of `events` that differ from `clip` in nothing but `aspect`."""
    if aspect == "order":
        candidates = [] if clip.at_once else [_clip_or_none(clip.second, clip.first, at_once=False)]
    else:
        words = WORDS[aspect]
        # The colour and shape of one object belong to both of its events and change together.
        together = clip.one_object and aspect in ("color", "shape")
        places = [(True, True)] if together else [(True, False), (False, True)]
        candidates = [
            _clip_or_none(
                replace(clip.first, **{aspect: word}) if in_first else clip.first,
                replace(clip.second, **{aspect: word}) if in_second else clip.second,
                clip.at_once,
            )
            for word in words
            for in_first, in_second in places
        ]
    known = [twin for twin in candidates if twin is not None and {twin.first, twin.second} <= set(events)]
    # In one colour, two circles would become one object: a second difference.
    alike = [twin for twin in known if twin.one_object == clip.one_object]
    return [twin for twin in alike if twin.meaning != clip.meaning and twin.meaning not in taken]


def _clip_or_none(first: ShapeEvent, second: ShapeEvent, at_once: bool) -> Clip | None:
    try:
        return Clip(first, second, at_once)
    except VmrError:
        return None


def _write(out_dir: Path, train: list[Clip], test: list[Clip], seed: int, progress: bool) -> None:
    """Write all files of the data set; test clips are numbered after training clips."""
    records: list[dict[str, Any]] = []
    with progress_bar(progress) as bar:
        for number, clip in enumerate(bar.track([*train, *test], description="drawing")):
            video = f"videos/{number:05}.mp4"
            _write_video(out_dir / video, render_clip(clip, (VERSION, seed, number)))
            records.append({"video": video, "caption": caption(clip), **asdict(clip)})
    rows = [{"video": record["video"], "caption": record["caption"]} for record in records]
    for place, record in enumerate(records[len(train) :]):
        twin = records[len(train) + (place ^ 1)]  # 0 and 1, 2 and 3, ...
        record |= {"twin": twin["video"], "twin_differs_in": ASPECTS[place // 2 % len(ASPECTS)]}
    meta = {
        "name": "shapes",
        "version": VERSION,
        "seed": seed,
        "num_train": len(train),
        "num_test": len(test),
        "size_px": SIZE,
        "num_frames": NUM_FRAMES,
        "fps": FPS,
        "speed_px_per_frame": SPEEDS,
        "train": records[: len(train)],
        "test": records[len(train) :],
    }
    for name, content in {"train": rows[: len(train)], "test": rows[len(train) :], "meta": meta}.items():
        (out_dir / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_video(file: Path, frames: Frames) -> None:
    """Encode (T, 3, H, W) frames as H.264 in mp4."""
    import av

    with av.open(str(file), "w") as container:
        # A constant quantiser, because rate control by quality (crf) is not repeatable: x264's macroblock tree reads
        # memory it has not set on pictures this small, and the same frames come out as different bytes.
        stream = container.add_stream("libx264", rate=FPS, options={"qp": "20", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        stream.codec_context.thread_count = 1  # the number of threads changes the bytes
        for frame in frames.transpose(0, 2, 3, 1):  # (H, W, 3)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
