"""A search for other programs: one query a line on standard input, one line of JSON for each on standard output."""

import json
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

from vmr.cli.search.options import SearchOptions
from vmr.errors import VmrError
from vmr.parsing import first_wrong

if TYPE_CHECKING:
    from vmr.retrieval.index import VideoIndex

_QUERIES = {"query": str, "like": int}


def answer_lines(index: "VideoIndex", options: SearchOptions) -> None:
    """Answer every line with one line, at once, so that a program can ask, read the answer and ask again.

    A line is a sentence, or a JSON object: `{"query": "a dog", "k": 3, "where": "duration > 60"}`, with `like` in place
    of `query` for moments like one whose id is given. The answer is the result, or `{"query": ..., "error": ...}`. An
    empty line is answered too, with an error.

    Args:
        index: the index.
        options: which moments to return, unless a line says otherwise.

    Raises:
        VmrError: some line could not be answered; it is raised after the last one.
    """
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # what is not UTF-8 is a wrong query
    num_lines = num_wrong = 0
    for line in sys.stdin:
        num_lines += 1
        asked = line.rstrip("\r\n")
        try:
            answer = _answer(index, options, asked)
        except VmrError as error:
            num_wrong += 1
            answer = {"query": asked, "error": str(error)}
        print(json.dumps(answer), flush=True)
    if num_wrong:
        raise VmrError(f"{num_wrong} of {num_lines} lines could not be answered; their answers say why")


def _answer(index: "VideoIndex", options: SearchOptions, asked: str) -> dict[str, Any]:
    if not asked.lstrip().startswith("{"):
        return options.search(index, asked).to_json()
    try:
        content = json.loads(asked)
    except (ValueError, RecursionError) as error:
        raise VmrError(f"the line begins with {{ and is no JSON object: {error}") from error
    given = [name for name in _QUERIES if name in content]
    if len(given) != 1:
        raise VmrError("an object needs either query, a sentence, or like, the number of a moment")
    query = content.pop(given[0])
    if wrong := first_wrong(_QUERIES[given[0]], query, given[0]):
        raise VmrError(wrong)
    return options.changed(content).search(index, query).to_json()
