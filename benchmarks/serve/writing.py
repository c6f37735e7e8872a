"""A process that writes the index while it is served, and sees how soon searches know."""

import http.client
import json
import time
from multiprocessing.connection import Connection
from urllib.parse import quote

import numpy as np

from benchmarks.serve.data import Served, Vectors, file_of, new_video
from benchmarks.serve.load import host_and_port
from vmr.retrieval.storage.records import FileState
from vmr.retrieval.storage.writer import IndexWriter

KEPT = 20  # videos that stay before the first of them is removed
_PATIENCE_S = 10.0


def write(results: Connection, address: str, served: Served, until_s: float, every_s: float) -> None:
    """Add a video for a new sentence again and again, and remove an earlier one, a commit each.

    After each commit, the sentence is searched until the answer fits: the new video is found, or the removed one no
    longer is. Sends the seconds of each from the commit to the answer, and what went wrong.

    Args:
        results: where to.
        address: of the service.
        served: its index.
        until_s: when to stop, in seconds of the monotonic clock.
        every_s: seconds from one commit to the next.
    """
    delays: list[float] = []
    errors: list[str] = []
    sentences, vectors = served.new_sentences, served.new_vectors
    added: list[tuple[int, int]] = []  # number of the sentence, and of the video
    connection = http.client.HTTPConnection(*host_and_port(address), timeout=30)
    with IndexWriter(served.index) as writer:
        with writer.reader.snapshot() as snapshot:
            first_file = snapshot.num_videos()
            space_id = snapshot.spaces()[0].id
        turn = 0
        while time.monotonic() < until_s:
            began_s = time.monotonic()
            if len(added) < KEPT or turn % 2 == 0:
                number = turn % len(sentences)
                video_id = _add(writer, served, first_file + number, space_id, vectors[number])
                added.append((number, video_id))
                is_wanted = True
            else:
                number, video_id = added.pop(0)
                with writer.commit() as changes:
                    changes.remove_video(video_id)
                is_wanted = False
            try:
                delays.append(_seconds_until(connection, sentences[number], video_id, is_wanted))
            except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
                errors.append(f"after commit {turn}: {type(error).__name__}: {error}")
                connection.close()
            turn += 1
            time.sleep(max(0.0, every_s - (time.monotonic() - began_s)))
        with writer.commit() as changes:  # the next writer adds the same again
            for _, video_id in added:
                changes.remove_video(video_id)
    results.send((delays, errors))


def _add(writer: IndexWriter, served: Served, file: int, space_id: int, vector: Vectors) -> int:
    """Add a video of ten windows, of which the first shows exactly what a sentence says."""
    status = file_of(served, file).stat()
    state = FileState(status.st_size, status.st_mtime_ns, status.st_ino, 2**62)
    rows = vector + np.random.default_rng(file).normal(0, 0.05, (10, len(vector)))
    rows[0] = vector
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    with writer.commit() as changes:
        return changes.put_video(new_video(served, file, space_id, rows.astype(np.float32), state))


def _seconds_until(connection: http.client.HTTPConnection, sentence: str, video_id: int, is_wanted: bool) -> float:
    """Search until a video is found, or no longer found."""
    began_s = time.monotonic()
    while time.monotonic() < began_s + _PATIENCE_S:
        connection.request("GET", f"/api/v1/search?q={quote(sentence)}&k=20")
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise ValueError(f"{response.status} {body[:200]!r}")
        if any(hit["video_id"] == video_id for hit in json.loads(body)["hits"]) == is_wanted:
            return time.monotonic() - began_s
    return _PATIENCE_S
