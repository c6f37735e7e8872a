"""`vmr-index build --keep-tokens` on a disk that is full, and killed between the tokens of a video and its commit."""

import shutil
import subprocess
from pathlib import Path

import pytest

import vmr
from tests.integration.commands import BIN, run_here
from tests.integration.processes import launch
from tests.patience import PATIENCE_S
from vmr.data.shapes.files import make_shapes
from vmr.retrieval.embedding.token_files import TokenFolder

MODEL = "videomamba-nano-shapes"
WINDOWS = ("--window", "0.5")

KILLED = """
import os, signal, sys
from vmr.cli.index import main
from vmr.retrieval.updating.work import Work

def kill(work, change, video):
    os.kill(os.getpid(), signal.SIGKILL)

Work._commit_vectors = kill
main(sys.argv[1:])
"""


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder with one clip; the other clips are beside it."""
    make_shapes(tmp_path / "shapes", num_clips=3, split="test")
    first, *_ = sorted((tmp_path / "shapes" / "test").iterdir())
    (tmp_path / "clips").mkdir()
    first.rename(tmp_path / "clips" / first.name)
    return tmp_path / "clips"


def build(clips: Path, *options: str) -> list[str]:
    return ["build", str(clips), "--out", str(clips.parent / "index"), "--encoder", MODEL, *WINDOWS, *options]


def logits(clips: Path) -> dict[tuple[str, float], float | None]:
    index = vmr.open_index(clips.parent / "index")
    found = index.search("a red square moves left", 1000, rerank=1000, keep_duplicates=True, overlapping=True)
    assert found.remarks == ()
    return {(hit.video, hit.start_s): hit.rerank_score for hit in found}


def test_a_full_disk_costs_the_video_under_way_and_nothing_before(clips):
    """Files may not grow beyond a size that the database does not reach, but the tokens of the second video do."""
    command = ["bash", "-c", 'ulimit -f 1000; exec "$@"', "bash", str(BIN / "vmr-index")]
    first = subprocess.run([*command, *build(clips, "--keep-tokens")], capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    before, names = logits(clips), TokenFolder(clips.parent / "index").names()
    long = clips / "long.mp4"
    parts = [f"file '{path}'" for path in sorted((clips.parent / "shapes" / "test").iterdir())] * 20
    (clips.parent / "parts.txt").write_text("\n".join(parts))
    concat(clips.parent / "parts.txt", long)
    full = subprocess.run([*command, *build(clips)], capture_output=True, text=True, check=False)
    assert full.returncode == 2 and "Traceback" not in full.stderr
    (line,) = [line for line in full.stderr.splitlines() if line.startswith("error: ")]
    assert line == f"error: {clips.parent / 'index' / 'tokens'}: cannot be written: File too large"
    assert logits(clips) == before and TokenFolder(clips.parent / "index").names() == names
    assert run_here("vmr-index", "verify", clips.parent / "index").returncode == 0
    again = run_here("vmr-index", *build(clips))
    assert again.returncode == 0, again.stderr
    after = logits(clips)
    assert len(TokenFolder(clips.parent / "index").names()) == 2 and len(after) > len(before)
    assert {key: after[key] for key in before} == before


def test_a_kill_between_tokens_and_commit_leaves_an_index_as_it_was(clips):
    assert run_here("vmr-index", *build(clips, "--keep-tokens")).returncode == 0
    before = logits(clips)
    others = sorted((clips.parent / "shapes" / "test").iterdir())
    shutil.copy(others[0], clips)
    killed = launch("-c", KILLED, *build(clips))
    killed.communicate(timeout=PATIENCE_S)
    assert killed.returncode == -9
    folder = TokenFolder(clips.parent / "index")
    assert logits(clips) == before and len(folder.names()) == 2
    assert run_here("vmr-index", "verify", clips.parent / "index").returncode == 0
    (clips / others[0].name).unlink()
    assert run_here("vmr-index", *build(clips)).returncode == 0
    assert logits(clips) == before and len(folder.names()) == 1


def concat(parts: Path, out: Path) -> None:
    """Join clips without decoding them."""
    import av

    with (
        av.open(str(parts), format="concat", options={"safe": "0"}) as source,
        av.open(str(out), "w") as container,
    ):
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
