"""`vmr-search`: the moments of an index that answer a sentence."""

from collections.abc import Sequence

from jsonargparse.typing import PositiveInt

from vmr.cli.common import run
from vmr.cli.output import print_hits, print_hits_json


def search(
    index: str,
    query: str,
    k: PositiveInt = 5,
    json: bool = False,
    overlapping: bool = False,
    encoder: str | None = None,
) -> None:
    """Find the moments that a sentence describes.

    Args:
        index: folder made by vmr-index
        query: what the video should show
        k: how many moments
        json: print JSON, a list of score, video, start_s, end_s
        overlapping: keep windows that overlap a better hit of the same video
        encoder: default, the encoder that built the index; any other is refused
    """
    from vmr.progress import spinner
    from vmr.retrieval.index import open_index

    with spinner(True, "searching"):
        hits = open_index(index, encoder).search(query, k, overlapping=overlapping).hits
    if json:
        print_hits_json(hits)
    else:
        print_hits(query, hits)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    run("vmr-search", search, ["index", "query"], 'vmr-search index "two people riding bicycles" --k 3', argv)
