"""Logits of the views of clips: each file is decoded once, for all its views and all columns; kept in a cache.

Shapes: W views of a clip, T frames, S pixels a side, C classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.worker_process import DecodeFailure, damage_failure
from vmr.data.remark import Remark
from vmr.data.views.decode import ViewItem, decode_views
from vmr.data.views.spec import ViewSpec
from vmr.errors import ModelError
from vmr.eval.classification.videos import Clip
from vmr.hashes import FileContent, state_of
from vmr.models.classifier import Classifier
from vmr.processes import Processes
from vmr.progress import progress_bar
from vmr.retrieval.feature_cache import FeatureCache, Features, facts_key

FRAMES_AT_ONCE = 64
"""Frames that a classifier gets at once. They are of one clip, so its logits do not depend on other clips."""

_LOOKED_UP = 256  # clips at once, in the cache

Logits = NDArray[np.float32]
_Key = tuple[str, tuple[float, float] | None]


@dataclass
class ClipLogits:
    """The logits of clips that could be read, and why the others could not.

    Attributes:
        logits: for each clip, by its name, its logits in each column, (W, C).
        remarks: for each clip what was noticed when it was decoded.
        failures: for each other clip the reason.
    """

    logits: dict[str, tuple[Logits, ...]] = field(default_factory=dict)
    remarks: dict[str, tuple[Remark, ...]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def clip_logits(
    clips: Sequence[Clip],
    classifiers: Sequence[Classifier],
    spec: ViewSpec,
    decode: DecodeOptions,
    *,
    cache: FeatureCache | None,
    processes: Processes,
    progress: bool,
) -> ClipLogits:
    """Compute the logits of every view of every clip, or say why a clip cannot be read.

    The logits of each clip are kept when they are done, so that an interrupted evaluation goes on where it was.

    Args:
        clips: the clips, with different names.
        classifiers: one for each column; they take the same views.
        spec: the views.
        decode: how videos are decoded.
        cache: logits of earlier evaluations; new ones are added. None to keep nothing.
        processes: each takes its share of the clips; all must call this function, and all get the whole result.
        progress: show a bar, in the main process.

    Raises:
        ModelError: a classifier gives logits that are not finite.
    """
    share = clips[processes.rank :: processes.world]
    run = _Run(classifiers, spec, decode, cache)
    with progress_bar(progress and processes.is_main) as bar:
        task = bar.add_task("looking up", total=len(share))
        for _ in run.look_up(share):
            bar.advance(task)
        task = bar.add_task("classifying", total=len(share), completed=len(share) - len(run.missing))
        for _ in run.classify():
            bar.advance(task)
    whole = ClipLogits()
    for part in processes.collect(run.found):
        whole.logits |= part.logits
        whole.remarks |= part.remarks
        whole.failures |= part.failures
    return whole


class _Run:
    """The clips of one process."""

    def __init__(
        self, classifiers: Sequence[Classifier], spec: ViewSpec, decode: DecodeOptions, cache: FeatureCache | None
    ) -> None:
        self.found = ClipLogits()
        self.missing: list[Clip] = []
        self._classifiers, self._spec, self._decode, self._cache = classifiers, spec, decode, cache
        self._keys: dict[str, tuple[str, ...]] = {}  # name of a clip -> its key in each column
        self._contents: dict[str, FileContent] = {}

    def look_up(self, clips: Sequence[Clip]) -> Iterator[Clip]:
        """Take what the cache holds of each clip."""
        if self._cache is None:
            self.missing = list(clips)
            yield from clips
            return
        files = dict.fromkeys(clip.path for clip in clips if clip.path)
        self._contents = {path: content for path, content in _contents(self._cache, list(files)) if content is not None}
        for start in range(0, len(clips), _LOOKED_UP):
            some = clips[start : start + _LOOKED_UP]
            self._keys |= {clip.name: self._keys_of(clip) for clip in some}
            known = self._cache.find(key for clip in some for key in self._keys[clip.name])
            for clip in some:
                keys = self._keys[clip.name]
                if keys and all(key in known for key in keys):
                    self._keep(clip, [known[key] for key in keys])
                else:
                    self.missing.append(clip)
                yield clip

    def classify(self) -> Iterator[Clip]:
        """Decode and classify what the cache does not hold."""
        for clip in (clip for clip in self.missing if clip.draw is not None):
            assert clip.draw is not None
            drawn = clip.draw(self._spec.num_frames, self._spec.size)
            self._finish(clip, drawn[None], ())
            yield clip
        waiting: dict[_Key, list[Clip]] = {}
        for clip in self.missing:
            if clip.draw is None:
                waiting.setdefault((clip.path, clip.span), []).append(clip)
        items = [ViewItem(path, span) for path, span in waiting]
        for item, views in decode_views(items, self._spec, self._decode):
            for clip in waiting[item.path, item.span]:
                if isinstance(views, DecodeFailure):
                    self.found.failures[clip.name] = views.reason
                else:
                    self._finish(clip, views.pixels, views.remarks)
                yield clip

    def _keys_of(self, clip: Clip) -> tuple[str, ...]:
        """The clip's key in each column; none if its content is not known."""
        content = clip.name if clip.draw is not None else getattr(self._contents.get(clip.path), "sha256", None)
        if content is None:
            return ()
        facts = {**asdict(self._spec), "span": clip.span, "reader": self._decode.reader}
        return tuple(facts_key("views", content, facts, classifier.fingerprint) for classifier in self._classifiers)

    def _finish(self, clip: Clip, pixels: NDArray[np.uint8], remarks: tuple[Remark, ...]) -> None:
        """Classify the views (W, T, 3, S, S) of a clip, and keep their logits unless the file has changed meanwhile."""
        spans = tuple((float(view), float(view)) for view in range(len(pixels)))
        features = [Features(spans, _logits(classifier, pixels, clip), remarks) for classifier in self._classifiers]
        content = self._contents.get(clip.path)
        changed = content is not None and content.state != _state_of(clip.path)
        if self._cache is not None and not changed:
            for key, each in zip(self._keys.get(clip.name, ()), features, strict=False):
                self._cache.put(key, each)
        self._keep(clip, features)

    def _keep(self, clip: Clip, features: Sequence[Features]) -> None:
        remarks = features[0].remarks
        damage = damage_failure(clip.path, remarks) if self._decode.strict else None
        if damage is not None:
            self.found.failures[clip.name] = damage.reason
            return
        self.found.logits[clip.name] = tuple(each.vectors for each in features)
        if remarks:
            self.found.remarks[clip.name] = remarks


def _logits(classifier: Classifier, pixels: NDArray[np.uint8], clip: Clip) -> Logits:
    views = torch.from_numpy(np.ascontiguousarray(pixels))
    at_once = max(1, FRAMES_AT_ONCE // views.shape[1])
    logits = torch.cat([classifier.logits(batch).float().cpu() for batch in views.split(at_once)]).numpy()
    if not np.isfinite(logits).all():
        raise ModelError(f"{clip.name}: {classifier.name} gives logits that are not finite: its weights are damaged")
    return logits


def _contents(cache: FeatureCache, paths: Sequence[str]) -> Iterator[tuple[str, FileContent | None]]:
    """The content of each file, or of each folder of frames."""
    yield from ((path, _folder_content(path)) for path in paths if Path(path).is_dir())
    yield from cache.contents(path for path in paths if not Path(path).is_dir())


def _folder_content(path: str) -> FileContent | None:
    state = _state_of(path)
    return None if state is None else FileContent(hashlib.sha256(f"{path}\n{state}".encode()).hexdigest(), state)


def _state_of(path: str) -> str | None:
    """What shows that a file has changed; of a folder, that of the files in it."""
    if not Path(path).is_dir():
        return state_of(path)
    try:
        files = sorted(Path(path).iterdir())
    except OSError:
        return None
    return hashlib.sha256(json.dumps([[file.name, state_of(file)] for file in files]).encode()).hexdigest()
