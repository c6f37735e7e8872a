"""How often moments with a match in words, from strong to unlikely, are the clip that a caption was written for.

    python -m benchmarks.match_words --clips DIR
    python -m benchmarks.match_words --clips DIR --index INDEX

DIR holds `videos` and `test.json`, real clips with captions. Each caption is searched among all clips. Other clips may
show what a caption says as well, so the share of right ones is a lower bound.
"""

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

import vmr
from benchmarks.common import environment
from vmr.retrieval.results import MATCHES, match_in_words


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--index", type=Path, help="an index of these clips; default, one is built")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        index = vmr.build_index(options.clips / "videos", options.index or Path(name) / "index")
        num_hits, num_right = count(index, json.loads((options.clips / "test.json").read_text()))
        index.close()
    table = Table("word", "match from", "moments", "right", "share")
    for lowest, word in MATCHES:
        hits, right = num_hits[word], num_right[word]
        table.add_row(word, f"{lowest:g}", str(hits), str(right), f"{right / max(hits, 1):.1%}")
    Console().print(environment(), table, sep="\n")


def count(index: vmr.VideoIndex, rows: list[dict[str, str]]) -> tuple[Counter[str], Counter[str]]:
    """Count the moments by the words for their matches, and those of them that show the captioned clip."""
    num_hits: Counter[str] = Counter()
    num_right: Counter[str] = Counter()
    for row in rows:
        for hit in index.search(row["caption"], len(index), keep_duplicates=True):
            if hit.match is None:
                raise SystemExit("the index is not calibrated: it needs more clips")
            word = match_in_words(hit.match)
            num_hits[word] += 1
            num_right[word] += Path(hit.video).name == row["video"]
    return num_hits, num_right


if __name__ == "__main__":
    main()
