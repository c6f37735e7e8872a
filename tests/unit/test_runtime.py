"""Networks that run without torch: the same results, whatever else is in the batch, and a cache that can be trusted."""

import gc
import logging
import os
import stat
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import Small, network, steps
from tests.paths import REPOSITORY
from tests.patience import PATIENCE_S
from vmr.models import runtime
from vmr.models.runtime import Network, is_exported, keep_graph, kept_graph, open_network

pytestmark = pytest.mark.skipif(runtime.runtime_version() is None, reason="needs OpenVINO, of the extra offline")

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=12)


class Branching(Small):
    """Computes otherwise for long inputs, which the graph of a short one does not show."""

    def forward(self, steps):
        return super().forward(steps) * (2 if steps.shape[1] > 5 else 1)


class Unknown(Small):
    """Does something that OpenVINO has no operation for."""

    def forward(self, steps):
        return torch.linalg.matrix_exp(super().forward(steps)[:, None] * torch.ones(7, 7))[:, 0]


def expected(inputs: list[np.ndarray]) -> np.ndarray:
    with torch.inference_mode():
        return np.concatenate([Small()(torch.from_numpy(one[None])).numpy() for one in inputs])


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VMR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def run():
    return open_network(network("small"), "cpu")


@given(lengths=LENGTHS)
@settings(max_examples=50)
def test_a_result_has_the_same_bits_whatever_else_is_in_the_batch(run, lengths):
    inputs = [steps(length) for length in lengths]
    results = run(inputs)
    np.testing.assert_allclose(results, expected(inputs), atol=1e-6)
    assert all(np.array_equal(run([one])[0], result) for one, result in zip(inputs, results, strict=True))


@given(order=st.permutations(range(5)), number=st.integers(1, 5))
@settings(max_examples=10)
def test_a_frame_has_the_same_features_whatever_else_is_in_the_batch(offline, order, number):
    frames = np.random.default_rng(0).integers(0, 256, (5, 3, 224, 224), dtype=np.uint8)
    frames[0], frames[1, :, 50:150] = 0, 255
    features = offline.encode_frames(frames)
    some = order[:number]
    assert np.array_equal(offline.encode_frames(frames[some]), features[some])


def test_results_do_not_depend_on_the_number_of_threads(cache, monkeypatch):
    inputs = [steps(length) for length in (3, 1, 200, 17, 3)]
    results = []
    for cpus in (1, 2, 5):
        monkeypatch.setattr(runtime, "num_cpus", lambda cpus=cpus: cpus)
        results.append(open_network(network("small"), "cpu")(inputs))
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


def test_threads_share_a_network(run):
    from concurrent.futures import ThreadPoolExecutor

    inputs = [steps(length) for length in range(1, 30)]
    once = run(inputs)
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(result, once) for result in pool.map(run, [inputs] * 12))


def test_a_network_that_nobody_uses_leaves_the_memory(cache):
    run = open_network(network("small"), "cpu")
    run([steps(3), steps(4)])
    left = weakref.ref(run)
    del run
    gc.collect()
    assert left() is None


def test_the_second_time_it_comes_from_the_cache(cache, caplog):
    assert not is_exported(network("small"))
    first = open_network(network("small"), "cpu")([steps(3)])
    assert [record.message for record in caplog.records] == [
        "small is exported from torch to OpenVINO; this takes some seconds, once"
    ]
    caplog.clear()
    assert is_exported(network("small"))
    unloadable = Network("small", "0123456789abcdef", (1, -1, 5), lambda: pytest.fail("loaded"), list)
    assert np.array_equal(open_network(unloadable, "cpu")([steps(3)]), first)
    assert not caplog.records
    assert not is_exported(network("other"))


@pytest.mark.parametrize("file", ["graph.xml", "graph.bin", "sha256.json"])
@pytest.mark.parametrize("damage", ["a byte", "cut", "gone"])
def test_damage_is_noticed(tmp_path, caplog, file, damage):
    keep_graph(tmp_path / "graph", b"<net/>" * 100, bytes(1000))
    assert kept_graph(tmp_path / "graph") == tmp_path / "graph" / "graph.xml" and not caplog.records
    path = tmp_path / "graph" / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data if damage == "a byte" else data[: len(data) // 2])
    assert kept_graph(tmp_path / "graph") is None
    said = [record.message for record in caplog.records]
    assert said == ([] if damage == "gone" else [f"{path.parent} is damaged: vmr makes it again"])


def test_a_damaged_graph_is_made_again(cache, caplog):
    first = open_network(network("small"), "cpu")([steps(3)])
    (folder,) = (path for path in (cache / "graphs").iterdir() if path.is_dir())
    (folder / "graph.bin").write_bytes(b"other weights")
    for num_exports in (1, 0):
        caplog.clear()
        assert np.array_equal(open_network(network("small"), "cpu")([steps(3)]), first)
        assert sum("is exported" in record.message for record in caplog.records) == num_exports


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VMR_CACHE", str(tmp_path / "file"))
    result = open_network(network("small"), "cpu")([steps(3)])
    np.testing.assert_allclose(result, expected([steps(3)]), atol=1e-6)
    (said,) = [record.message for record in caplog.records if "cannot" in record.message]
    assert str(tmp_path / "file") in said and said.endswith("small is exported for this process alone")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache_is_used(cache):
    first = open_network(network("small"), "cpu")([steps(3)])
    folders = [cache, cache / "graphs", *(cache / "graphs").glob("small*")]
    for folder in folders:
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert np.array_equal(open_network(network("small"), "cpu")([steps(3)]), first)
    finally:
        for folder in folders:
            folder.chmod(stat.S_IRWXU)


def test_no_room_for_temporary_files_costs_time_only(cache, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    result = open_network(network("small"), "cpu")([steps(3)])
    np.testing.assert_allclose(result, expected([steps(3)]), atol=1e-6)
    assert not is_exported(network("small"))
    assert any(record.message.startswith("the exported graph cannot be kept: ") for record in caplog.records)


@pytest.mark.parametrize(
    ("module", "said"), [(Branching, "OpenVINO's results differ from torch's by"), (Unknown, "OpenVINO cannot run it")]
)
def test_a_graph_that_does_not_agree_is_not_used(cache, caplog, module, said):
    level = logging.getLogger().level
    run = open_network(network("odd", module), "cpu")
    (line,) = [record.message for record in caplog.records if said in record.message]
    assert line.startswith("odd: ") and "\n" not in line
    assert logging.getLogger().level == level
    assert isinstance(run, runtime._Eager) and not is_exported(network("odd"))
    once = module().eval()
    with torch.inference_mode():
        assert np.array_equal(run([steps(3)])[0], once(torch.from_numpy(steps(3)[None]))[0].numpy())


def test_openvino_tells_nobody_that_it_is_used(tmp_path):
    """Its telemetry keeps the number of the user in the home folder, and sends it with every import."""
    script = (
        "import sys; from vmr.models.runtime import runtime_version;"
        "print(runtime_version(), 'openvino_telemetry' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [runtime.runtime_version(), "False"]
    assert [*tmp_path.iterdir()] == []


def test_two_processes_export_once(cache):
    """Both start with an empty cache."""
    script = (  # the network is dropped just before the process ends, which must not abort it
        "from tests.networks import network, steps; from vmr.models.runtime import open_network;"
        "print(open_network(network('small'), 'cpu')([steps(3)]).tobytes().hex())"
    )
    command = [sys.executable, "-c", script]
    started = [
        subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ends = [process.communicate(timeout=PATIENCE_S) for process in started]
    assert [process.returncode for process in started] == [0, 0], ends
    assert ends[0][0] == ends[1][0] != ""
    assert sum("is exported" in said for _, said in ends) == 1


def test_ctrl_c_is_taken_after_networks_have_gone(cache):
    """In whatever order: OpenVINO gives a thread a stack for signals, which must not be memory that is gone."""
    script = (
        "import gc, signal\n"
        "from tests.networks import network\n"
        "from vmr.models.runtime import open_network\n"
        "first = open_network(network('small'), 'cpu')\n"
        "second = open_network(network('small'), 'cpu')\n"
        "del first; gc.collect()\n"
        "del second; gc.collect()\n"
        "try:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt:\n"
        "    print('taken')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "taken\n"), done.stderr
