"""Which moments a search returns: the options of `vmr-search`, of its interactive session and of its lines of JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveInt

from vmr.errors import VmrError
from vmr.parsing import first_wrong

if TYPE_CHECKING:
    from vmr.retrieval.index import VideoIndex
    from vmr.retrieval.results import Hit, SearchResult


@dataclass(frozen=True)
class SearchOptions:
    """Which moments are returned.

    Attributes:
        k: how many moments
        where: only moments of the videos that an expression selects, such as 'folder = "cam07" and date >= 2026-11'
        per_video: at most so many moments of one video
        rerank: how many of the best moments, 20 to 100, the encoder's matcher puts into a new order
        min_match: leave out moments whose match, 0 to 1, is lower
        keep_duplicates: keep moments that show what a better one shows, and videos with the same content
        overlapping: return single windows, also where they overlap, and not moments of several windows
    """

    k: PositiveInt = 5
    where: str | None = None
    per_video: PositiveInt | None = None
    rerank: PositiveInt | None = None
    min_match: float | None = None
    keep_duplicates: bool = False
    overlapping: bool = False

    def changed(self, options: Mapping[str, Any]) -> "SearchOptions":
        """Return the options with other values.

        Args:
            options: name -> value, as JSON types.

        Raises:
            VmrError: there is no such option, or a value is of another type.
        """
        names = [field.name for field in fields(self)]
        for name in options:
            if name not in names:
                raise VmrError(f"there is no option {name}, but {', '.join(names)}")
        changed = {**asdict(self), **options}
        if wrong := first_wrong(SearchOptions, changed):
            raise VmrError(wrong)
        return SearchOptions(**changed)

    def search(self, index: "VideoIndex", query: "str | int | Hit") -> "SearchResult":
        """Search an index.

        Args:
            index: the index.
            query: a sentence, a moment, or the number of one.

        Raises:
            VmrError: the query or an option is refused.
        """
        return index.search(query, **asdict(self))
