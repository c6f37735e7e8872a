"""The benchmark of the index at its smallest size: it measures, and what it measures is right."""

import json
import subprocess
import sys

from tests.paths import REPOSITORY


def test_quick(tmp_path):
    out = tmp_path / "index.json"
    command = [sys.executable, "-m", "benchmarks.index", "--quick", "--only", "faiss HNSW32", "--json", str(out)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "recall@10" in done.stdout and "goals" in done.stdout
    (rows,) = json.loads(out.read_text())["rows"].values()
    assert set(rows) == {"vmr", "faiss HNSW32"}
    ours, graph = rows["vmr"], rows["faiss HNSW32"]
    assert ours["changed"]["found"] and ours["changed"]["gone"] and graph["changed"]["found"]
    # 10,000 rows are searched exactly, up to the rounding of float16; the graph passes over what a filter selects.
    assert ours["served"]["sweep"][0]["recall"] > 0.98
    filters = ours["served"]["filtered"]
    assert len(filters) == 12 and all(point["recall"] > 0.98 for (point,) in filters.values())
    assert graph["served"]["filtered"]["random-0.01"][-1]["recall"] < 0.9
    assert graph["served"]["sweep"][-1]["recall"] > 0.98
