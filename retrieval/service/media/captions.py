"""The texts of a video as captions (WebVTT)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from vmr.retrieval.storage.records import Text

_LEAST_S = 0.1  # a text is shown at least so long
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\0": "\N{REPLACEMENT CHARACTER}"})


def captions(texts: Iterable[Text], kinds: Sequence[str] = (), offset_s: float = 0.0) -> str:
    """Write texts that belong to a time as WebVTT.

    Args:
        texts: of a video; those of the whole video are left out.
        kinds: only texts of these kinds; empty for all.
        offset_s: is added to all times; what is over before 0 is left out.

    Returns:
        The file; nothing of a text can end its cue, or become a tag.
    """
    cues = []
    for text in texts:
        if text.start_s is None or text.end_s is None or (kinds and text.kind not in kinds):
            continue
        start_s, end_s = text.start_s + offset_s, max(text.end_s, text.start_s + _LEAST_S) + offset_s
        lines = re.split(r"[\r\n\u2028\u2029]+", text.text.strip())
        payload = "\n".join(line for line in lines if line.strip()).translate(_ESCAPES)
        if end_s > 0 and payload:
            cues.append((max(0.0, start_s), end_s, payload))
    blocks = [f"{_time(start_s)} --> {_time(end_s)}\n{payload}" for start_s, end_s, payload in sorted(cues)]
    return "\n\n".join(["WEBVTT", *blocks]) + "\n"


def _time(seconds: float) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"
