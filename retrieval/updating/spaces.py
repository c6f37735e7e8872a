"""The encoders of an update, and the spaces that hold their vectors. Models are loaded when they are needed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from vmr.checks import check_type
from vmr.data.decoding.segments import FrameSpec
from vmr.errors import IndexFileError, VmrError
from vmr.models.catalogue import load_encoder, shows_progress
from vmr.models.encoder import Encoder, check_encoder
from vmr.progress import spinner
from vmr.retrieval.frames import frame_spec
from vmr.retrieval.segments import SegmentOptions
from vmr.retrieval.storage.changes import Changes
from vmr.retrieval.storage.records import IndexSettings, Space
from vmr.retrieval.updating.cutting import REMEDY, check_option, options_of
from vmr.retrieval.vectors.faiss_store import check_kind
from vmr.retrieval.vectors.kinds import AUTO

DType = Literal["float16", "float32"]
AnyEncoder = str | Path | Encoder

DTYPES = ("float16", "float32")
_ANY_WINDOWS = IndexSettings(None, None)


@dataclass(frozen=True)
class VectorOptions:
    """How an index stores and searches its vectors. None stands for what the index does already.

    Attributes:
        dtype: how vectors are stored, "float16" or "float32". A new index stores float16, which takes half the room and
            changes scores in the fourth digit.
        kind: of the FAISS file: "auto" by the number of rows, as in a new index, or "flat", "sq8", "hnsw", "ivf_flat",
            "ivf_sq8", "ivf_rabitq" or any string that FAISS's index_factory knows.
        keep_tokens: also keep the tokens of all videos, for models that can re-rank, which makes re-ranked searches
            faster. They lie in the folder `tokens` of the index. As long as it is there, each update keeps tokens.

    Raises:
        VmrError: the type is unknown, or the kind is no text.
    """

    dtype: DType | None = None
    kind: str | None = None
    keep_tokens: bool = False

    def __post_init__(self) -> None:
        check_type("keep_tokens", self.keep_tokens, bool)
        if self.dtype is not None and self.dtype not in DTYPES:
            raise VmrError(f"dtype must be one of {', '.join(DTYPES)}, not {self.dtype!r}")
        check_type("kind", self.kind, str, type(None))

    def check(self, dim: int) -> None:
        """Check that FAISS knows the kind, for vectors of `dim` dimensions. Raises VmrError if it does not."""
        if self.kind is not None and self.kind != AUTO:
            check_kind(self.kind, dim)


def frames_of(encoder: Encoder, segments: SegmentOptions) -> FrameSpec:
    """Return which frames an encoder is given.

    Raises:
        VmrError: it cannot take them so.
    """
    return frame_spec(encoder, keyframes=segments.frames == "keyframes", skip_still=segments.skip_still)


class Spaces:
    """The spaces that an update fills: those of the index, and one for each further encoder.

    Args:
        folder: the index, for messages.
        known: the spaces of the index.
        encoders: what the user named; without any, the encoders of the index, or `offline` for a new one.
        dtype: how vectors are stored; None for what the index does, float16 for a new one.
        segments: which frames are taken.
        reader: the library that decodes the videos.
        progress: show that a model is being loaded.

    Raises:
        IndexFileError: the index was made in another way.
        VmrError: an encoder is named twice.
        ModelError: there is no such model.
    """

    def __init__(
        self,
        folder: Path,
        known: Sequence[Space],
        encoders: Sequence[AnyEncoder],
        *,
        dtype: DType | None,
        segments: SegmentOptions,
        reader: str,
        progress: bool,
    ) -> None:
        self._folder, self._segments, self._progress = folder, segments, progress
        self._spaces = list(known)
        self._encoders: dict[str, Encoder] = {}
        for space in known:
            check_option(folder, "reader", space.frames["reader"], reader)
            check_option(folder, "dtype", space.dtype, dtype or space.dtype)
            before = options_of(_ANY_WINDOWS, space.frames)
            check_option(folder, "frames", before.frames, segments.frames)
            check_option(folder, "skip_still", before.skip_still, segments.skip_still)
        named: set[str] = set()
        for given in encoders or ([] if known else ["offline"]):
            name = self._take(given, dtype or (known[0].dtype if known else "float16"), reader)
            if name in named:
                raise VmrError(f"the encoder {name} is given twice")
            named.add(name)

    def __iter__(self) -> Iterator[Space]:
        """Iterate over the spaces; those that are not in the index yet have the id 0."""
        return iter(self._spaces)

    def groups(self) -> list[list[str]]:
        """Return the names of the spaces; those whose models take the same frames are together."""
        groups: dict[str, list[str]] = {}
        for space in self._spaces:
            groups.setdefault(repr(sorted(space.frames.items())), []).append(space.name)
        return list(groups.values())

    def ids(self) -> dict[str, int]:
        """Name of a space -> its id."""
        return {space.name: space.id for space in self._spaces}

    def add_new(self, changes: Changes) -> dict[str, int]:
        """Add the spaces that are not in the index yet.

        Returns:
            Name of each of them -> its id, once the changes are committed.
        """
        return {space.name: changes.add_space(space) for space in self._spaces if space.id == 0}

    def added(self, ids: Mapping[str, int]) -> None:
        """Note the ids of spaces whose commit has succeeded."""
        self._spaces = [replace(space, id=ids.get(space.name, space.id)) for space in self._spaces]

    def loaded(self) -> dict[str, Encoder]:
        """Name of a space -> its model, for those that were given or needed so far."""
        return dict(self._encoders)

    def encoder(self, name: str) -> Encoder:
        """Return the model of a space, which is loaded at the first call.

        Raises:
            IndexFileError: it cannot be loaded by its name, or it is another model than the one that the index knows.
        """
        if name not in self._encoders:
            (space,) = [space for space in self._spaces if space.name == name]
            try:
                model = self._load(space.encoder)
            except VmrError as error:
                raise IndexFileError(f"{self._folder} needs the encoder {name}: {error}: name all encoders") from error
            self._check(space, model)
            self._encoders[name] = model
        return self._encoders[name]

    def _take(self, given: AnyEncoder, dtype: DType, reader: str) -> str:
        """Find the space of an encoder, or make one; return its name."""
        if isinstance(given, str | Path):
            for name in (str(given), str(Path(given).absolute())):
                if name in self.ids():
                    return name
            model = self._load(given)
        else:
            check_encoder(given)
            model = given
        space = next((space for space in self._spaces if space.name == model.name), None)
        if space is None:
            frames = asdict(frames_of(model, self._segments)) | {"reader": reader}
            self._spaces.append(Space(0, model.name, model.name, model.fingerprint, model.embed_dim, dtype, frames))
        else:
            self._check(space, model)
        self._encoders[model.name] = model
        return model.name

    def _load(self, name: str | Path) -> Encoder:
        with spinner(self._progress and not shows_progress(name), "loading the encoder"):
            return load_encoder(name)

    def _check(self, space: Space, model: Encoder) -> None:
        is_same = (model.fingerprint, model.embed_dim) == (space.fingerprint, space.dim)
        frames = asdict(frames_of(model, self._segments)) | {"reader": space.frames["reader"]}
        if not is_same or not space.frames.items() <= frames.items():  # an old index does not say everything
            raise IndexFileError(
                f"{self._folder} holds vectors of {space.name} ({space.fingerprint}), not of this {model.name} "
                f"({model.fingerprint}): {REMEDY}"
            )
