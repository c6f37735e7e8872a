"""Every writer of vmr with a small thing to write, and a reader that says what is there.

`vmr.files` has the functions that write. `tests/integration/test_write_faults.py` fails if a function that calls one of
them is run by no case.
"""

import contextlib
import hashlib
import io
import json
import os
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.faults import index_cases, job_cases
from tests.models import PREPROCESS, make_encoder, tiny_model
from tests.reports import make_report
from vmr.cli import data_findings, data_protocols, demo
from vmr.cli.eval.outputs import OutputOptions, write
from vmr.cli.search.history import MAX_LINES, History
from vmr.cli.search.hits import label_of
from vmr.data.annotations.records import Record, RecordTable, cached_table
from vmr.data.doctor.findings import CAPTION_PROBLEMS, Diagnosis, Finding
from vmr.data.shapes.files import make_shapes
from vmr.data.sources.spool import Spool
from vmr.data.training.frame_cache import cached_frames
from vmr.data.training.loader import Skipped
from vmr.errors import VmrError
from vmr.files import sha256_of
from vmr.hashes import hash_file, remembered_hashes
from vmr.models.runtime import keep_graph, kept_graph
from vmr.models.saved_model import _read, save_model
from vmr.models.text.tokenizer import CaptionTokenizer
from vmr.retrieval.contact_sheet import save_contact_sheet
from vmr.retrieval.embedding.token_files import TOKENS, TokenFolder, TokenSpool, file_name
from vmr.retrieval.feature_cache import FeatureCache, Features
from vmr.retrieval.reranking.log import LOG_FILE as RERANK_LOG
from vmr.retrieval.reranking.log import RerankLog
from vmr.retrieval.reranking.text_store import TextStore
from vmr.retrieval.service.media.cache import Cache
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.upkeep.exporting import export_vectors
from vmr.retrieval.upkeep.vector_files import read_vector_file
from vmr.train import log
from vmr.train.checkpoint import TrainState, newest_intact, save_checkpoint
from vmr.train.config import TrainConfig
from vmr.train.config_file import save_config
from vmr.train.run_config import RunConfig


@dataclass(frozen=True)
class Case:
    """A writer.

    Attributes:
        write: write(folder, version): writes version 1 or 2 of something into a folder.
        read: what the folder holds, as a value; None if nothing is there. Raises an error if it is damaged.
        begin: puts into a folder what is there before anything is written; it does nothing by default.
        replaces: whether version 2 may be written over version 1.
        in_parts: what is read is a dictionary, and each value of it is written for itself.
        is_cache: what cannot be written costs time and nothing else.
        is_database: SQLite writes, which copes with some errors without a word.
        every: only every so many calls is made to fail.
    """

    write: Callable[[Path, int], object]
    read: Callable[[Path], object]
    begin: Callable[[Path], object] = lambda folder: None
    replaces: bool = True
    in_parts: bool = False
    is_cache: bool = False
    is_database: bool = False
    every: int = 1


TOKENIZER = CaptionTokenizer()
MODELS = {version: tiny_model(version) for version in (1, 2)}
ENCODER = make_encoder(MODELS[1], tokenizer=TOKENIZER)
REPORT = make_report()


def numbers(version: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(version).normal(size=shape).astype(np.float32)


def absent_or(read: Callable[[Path], object], name: str) -> Callable[[Path], object]:
    """A reader that returns None if `name` is not in the folder."""
    return lambda folder: read(folder) if (folder / name).exists() else None


def text_of(name: str) -> Callable[[Path], object]:
    return absent_or(lambda folder: (folder / name).read_text(), name)


# What is made of an index

OPEN: dict[Path, IndexReader] = {}


def original(version: int) -> Path:
    """An index that nobody changes, outside the folder in which writing fails."""
    folder = VIDEO.parent / f"index-{version}"
    if not folder.exists():
        index_cases.change(folder, version)
    if folder not in OPEN:
        OPEN[folder] = IndexReader(folder)  # SQLite's file of shared memory must not be made under a limit of sizes
    return folder


def export_an_index(kind: str) -> Callable[[Path, int], object]:
    return lambda folder, version: export_vectors(original(version), folder / f"a.{kind}", kind, space="half")


def read_the_export(kind: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        rows = read_vector_file(folder / f"a.{kind}")
        return rows.videos, rows.starts.tobytes(), rows.vectors.tobytes(), rows.about

    return absent_or(read, f"a.{kind}")


# The feature cache and the log of re-ranking


def put_features(folder: Path, version: int) -> None:
    spans = tuple((float(number), number + 1.0) for number in range(version))
    FeatureCache(folder).put("video", Features(spans, numbers(version, version, 8)), numbers(version, 1, 50, 8))


def read_features(folder: Path) -> object:
    cache = FeatureCache(folder)
    found = cache.find(["video"]).get("video")
    if found is None:
        return None
    tokens = cache.tokens("video")
    assert tokens is not None
    return found.spans, found.vectors.tobytes(), tokens.tobytes()


def put_texts(folder: Path, version: int) -> None:
    FeatureCache(folder).put_texts("texts", numbers(version, 50, 8))


def read_texts(folder: Path) -> object:
    found = FeatureCache(folder).texts("texts")
    return None if found is None else found.tobytes()


SPANS = [(0.0, 8.0), (4.0, 12.0), (8.0, 12.5)]
TOKEN_FILE = file_name(bytes(32), "fingerprint", {})


def keep_tokens(folder: Path, version: int) -> None:
    with contextlib.closing(TokenSpool(folder)) as spool:
        for window in range(len(SPANS)):
            spool.append(numbers(3 * version + window, 1, 50, 8))
        TokenFolder(folder).put(TOKEN_FILE, SPANS, spool)


def read_tokens(folder: Path) -> object:
    kept = [TokenFolder(folder).read(TOKEN_FILE, window) for window in range(len(SPANS))]
    assert None not in kept
    return [(span, tokens.tobytes()) for span, tokens in filter(None, kept)]


def append_logits(folder: Path, version: int) -> None:
    with contextlib.closing(RerankLog(folder, "run")) as rerank_log:
        rerank_log.fix_batch_size(8)
        rerank_log.append(7, numbers(version, 2000))


def read_logits(folder: Path) -> object:
    with contextlib.closing(RerankLog(folder, "run")) as rerank_log:
        return {video: logits.tobytes() for video, logits in rerank_log.read().items()} or None


def remember_a_hash(folder: Path, version: int) -> None:
    del version
    with as_cache(folder), remembered_hashes() as database:
        content = hash_file(VIDEO, database)
        assert content is not None and content.sha256 == sha256_of(VIDEO)


@contextlib.contextmanager
def as_cache(folder: Path):
    before = os.environ["VMR_CACHE"]
    os.environ["VMR_CACHE"] = str(folder)
    try:
        yield
    finally:
        os.environ["VMR_CACHE"] = before


# Models and runs


def write_a_checkpoint(folder: Path, version: int) -> None:
    state = TrainState(40, [{"batch": version}], {}, 0, None, {})
    tensors = {"model": {"a": torch.from_numpy(numbers(version, 600))}, "optimizer": {"a/step": torch.tensor(1.0)}}
    save_checkpoint(folder / "checkpoints", tensors, state)


def read_the_checkpoint(folder: Path) -> object:
    found = newest_intact(folder / "checkpoints")
    return None if found is None else (found.state, sha256_of(found.path / "model.safetensors"))


def write_a_model(folder: Path, version: int) -> None:
    save_model(folder, MODELS[version], PREPROCESS, TOKENIZER, training={"version": version})


def read_the_model(folder: Path) -> object:
    config, weights, _ = _read(folder)  # checks both files
    return config.training, sorted(weights)


def keep_a_graph(folder: Path, version: int) -> None:
    keep_graph(folder / "graph", f"<net version={version}/>".encode(), bytes([version]) * 70_000)


def read_the_graph(folder: Path) -> object:
    graph = kept_graph(folder / "graph")
    assert graph is not None, "damaged"
    return graph.read_text()


def log_some_steps(folder: Path, version: int) -> None:
    with log.RunLog(RunConfig(out=str(folder)), 4, version, {}, active=True) as run:
        run.event(version, "resumed")
        run.skipped(version, [Skipped("source", f"clip {version}", "broken")])
        run.validation(version, {"R@1": 1.0}, best=True)


def read_the_log(folder: Path) -> object:
    files = [folder / name for name in (log.LOG_FILE, log.SKIPPED_FILE)]
    lines = [(file.name, line) for file in files if file.exists() for line in file.read_text().splitlines()]
    return {line: json.loads(line[1]) for line in lines}  # a run that is resumed may repeat a line


def without_tensorboard(folder: Path, version: int) -> None:
    sys.modules["torch.utils.tensorboard"] = None  # type: ignore[assignment]  # as if it were not installed
    log_some_steps(folder, version)


class FakeRun:
    """Weights & Biases is in no extra, and its runs need an account: only our own file of it is written."""

    def log(self, scalars: object, step: int) -> None: ...

    def finish(self) -> None: ...


def name_a_wandb_run(folder: Path, version: int) -> None:
    del version
    stand_in: Any = types.ModuleType("wandb")
    stand_in.Error, stand_in.init = RuntimeError, lambda **options: FakeRun()
    sys.modules["wandb"] = stand_in
    log._WandbWriter("project", folder, {})


def write_a_config(folder: Path, version: int) -> None:
    save_config(replace(TrainConfig(), run=RunConfig(seed=version)), folder / "config.yaml")


# Data


def write_shapes(folder: Path, version: int) -> None:
    make_shapes(folder / "shapes", num_clips=2, seed=version, split="train")


def read_shapes(folder: Path) -> object:
    rows = json.loads((folder / "shapes" / "train.json").read_text())
    return [(row["caption"], sha256_of(folder / "shapes" / row["video"])) for row in rows]


VIDEO = Path()
"""A video that can be decoded; made by `use_video`."""


def use_video(folder: Path) -> Path:
    make_shapes(folder / "shapes", num_clips=1, split="train")
    return folder / "shapes" / "train" / "00000.mp4"


def records(version: int) -> list[Record]:
    return [Record(f"{number}.mp4", str(number), ("a dog " * 3 * version,)) for number in range(60)]


def read_table(name: str) -> Callable[[Path], object]:
    return absent_or(lambda folder: tuple(RecordTable.open(folder / name)), name)


def cache_a_table(folder: Path, version: int) -> None:
    with as_cache(folder / "cache"):
        cached_table([VIDEO], ["test"], lambda left_out: records(version))


def cache_frames(folder: Path, version: int) -> None:
    del version
    assert cached_frames(str(VIDEO), str(folder), 8, 64, "pyav").shape == (8, 3, 64, 64)


def frames_there(folder: Path) -> object:
    return [np.load(file).tobytes() for file in folder.rglob("*.npy")] or None


SPOOLS: list[Spool] = []


def spool_a_clip(folder: Path, version: int) -> None:
    spool = Spool(1, folder / "clips")
    SPOOLS.append(spool)  # the collector, at any time, would remove it with its folder
    assert spool.put(0, ".mp4", lambda: bytes([version]) * 5000).read_bytes() == bytes([version]) * 5000


def keep_texts(folder: Path, version: int) -> None:
    del version
    texts = ["a dog runs", "a cat"]
    store = TextStore(ENCODER, texts, np.array(ENCODER.text_lengths(texts)), 64, folder)
    assert torch.isfinite(store.batch(np.arange(2)).tokens).all()
    store.close()


def copy_footage(folder: Path, version: int) -> None:
    del version
    demo._copy_footage(folder)


def copied(folder: Path) -> object:
    return {file.name: sha256_of(file) for file in folder.glob("*.mp4")}


# Reports


def print_a_report(folder: Path, version: int) -> None:
    files = {"out": "report.json", "markdown": "report.md"}  # a page is written in the same way, and takes long to make
    report = make_report(about=f"toy {version}")
    write(report, OutputOptions(**{kind: str(folder / name) for kind, name in files.items()}))


def printed_reports(folder: Path) -> object:
    return {name: (folder / name).read_text() for name in ("report.json", "report.md") if (folder / name).exists()}


def report_findings(folder: Path, version: int) -> None:
    missing = [Finding("missing", f"{number}.mp4", "gone") for number in range(99 * version)]
    found = Diagnosis({"files": 999}, missing, CAPTION_PROBLEMS)
    data_findings.finish_check("train.json", found, str(folder / "findings.json"), {"max_tokens": 32})


def report_a_protocol(folder: Path, version: int) -> None:
    del version
    try:
        data_protocols.check_protocol("msrvtt", str(VIDEO.parent), str(folder / "inventory.json"))
    except VmrError as error:
        if str(folder) in str(error):  # otherwise it says that there are no videos, after the report was written
            raise


def draw_a_sheet(folder: Path, version: int) -> None:
    save_contact_sheet([("a dog " * version, [])], folder / "sheet.png", label_of)


def begin_a_long_history(folder: Path) -> None:
    (folder / "history").write_text("a dog\n" * (MAX_LINES + 1))  # so long that it is written anew


def put_into_a_cache(folder: Path, version: int) -> None:
    Cache(folder, 10**6).put("a", bytes([version]) * 5000)


def read_the_cache(folder: Path) -> object:
    content = Cache(folder, 10**6).get("a")
    assert content is None or content in (bytes([1]) * 5000, bytes([2]) * 5000)
    return content and content[0]


def remember_queries(folder: Path, version: int) -> None:
    del version
    history = History(folder / "history")
    history.add("a cat")
    history.close()


def sheet(folder: Path) -> object:
    from PIL import Image

    with Image.open(folder / "sheet.png") as picture:
        picture.load()
        return hashlib.sha256(picture.tobytes()).hexdigest()


def nothing_kept(folder: Path) -> object:
    del folder
    return None


CASES = {
    "changes of an index": Case(index_cases.change, index_cases.read, is_database=True, every=2),
    "new or replaced index": Case(index_cases.build, index_cases.read, is_database=True, every=6),
    "replaced index that was damaged": Case(
        index_cases.build,
        index_cases.read_unless_damaged,
        index_cases.begin_damaged,
        replaces=False,
        is_database=True,
        every=10,
    ),
    "FAISS file of an index": Case(
        index_cases.make_a_file, index_cases.read_parts, index_cases.begin, in_parts=True, is_database=True, every=4
    ),
    "compacted index": Case(
        index_cases.compact, index_cases.read_index, index_cases.begin_index, replaces=False, is_database=True, every=6
    ),
    "copied index": Case(
        index_cases.copy, index_cases.read_copy, index_cases.begin_index, replaces=False, is_database=True, every=6
    ),
    "upgraded index": Case(
        index_cases.upgrade, index_cases.read_upgraded, index_cases.begin_old, replaces=False, is_database=True, every=6
    ),
    "jobs of a service": Case(job_cases.keep, job_cases.read, in_parts=True, is_database=True, every=3),
    "cache of a service": Case(put_into_a_cache, read_the_cache),
    "uploaded video": Case(job_cases.receive, job_cases.received, replaces=False),
    "vectors in Parquet": Case(export_an_index("parquet"), read_the_export("parquet")),
    "vectors in npz": Case(export_an_index("npz"), read_the_export("npz")),
    "vectors in CSV": Case(export_an_index("csv"), text_of("a.csv")),
    "features": Case(put_features, read_features, is_database=True),
    "tokens of an index": Case(keep_tokens, absent_or(read_tokens, f"{TOKENS}/{TOKEN_FILE}")),
    "text features": Case(put_texts, read_texts, is_database=True),
    "log of re-ranking": Case(append_logits, absent_or(read_logits, RERANK_LOG), is_database=True),
    "remembered hashes": Case(remember_a_hash, nothing_kept, replaces=False, is_cache=True),
    "checkpoint": Case(write_a_checkpoint, read_the_checkpoint),
    "saved model": Case(write_a_model, absent_or(read_the_model, "config.json")),
    "exported network": Case(keep_a_graph, absent_or(read_the_graph, "graph")),
    "log of a run": Case(without_tensorboard, read_the_log, in_parts=True),
    "log of a run with TensorBoard": Case(log_some_steps, read_the_log, in_parts=True),
    "name of a run on Weights & Biases": Case(name_a_wandb_run, nothing_kept, replaces=False),
    "config": Case(write_a_config, text_of("config.yaml")),
    "shapes": Case(write_shapes, absent_or(read_shapes, "shapes"), replaces=False),
    "table of records": Case(
        lambda folder, version: RecordTable.build(records(version), folder / "a.arrow"), read_table("a.arrow")
    ),
    "cached table": Case(cache_a_table, nothing_kept, replaces=False, is_database=True),
    "frames": Case(cache_frames, frames_there, replaces=False, is_cache=True),
    "spooled clip": Case(spool_a_clip, nothing_kept),
    "texts to match": Case(keep_texts, nothing_kept),
    "report": Case(lambda folder, version: make_report(about=f"{version}").save(folder / "a.json"), text_of("a.json")),
    "reports of vmr-eval": Case(print_a_report, printed_reports, in_parts=True),
    "findings of vmr-data check": Case(report_findings, text_of("findings.json")),
    "inventory of vmr-data check": Case(report_a_protocol, text_of("inventory.json")),
    "contact sheet": Case(draw_a_sheet, absent_or(sheet, "sheet.png")),
    "history of queries": Case(remember_queries, nothing_kept, begin_a_long_history, replaces=False, is_cache=True),
    "footage of the demo": Case(copy_footage, copied, in_parts=True),
}


@contextlib.contextmanager
def silent():
    """Printed tables and progress bars go nowhere."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
