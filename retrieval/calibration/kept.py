"""The calibrations that an index keeps, one for each vector space."""

from collections.abc import Mapping
from contextlib import closing
from functools import partial

from vmr.errors import IndexFileError
from vmr.models.encoder import Encoder
from vmr.retrieval.calibration.calibrate import calibrate
from vmr.retrieval.calibration.calibration import Calibration
from vmr.retrieval.storage.records import Space
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.vectors.space_store import SpaceStore
from vmr.retrieval.vectors.store import Vectors


def kept_calibration(space: Space, rows: int) -> Calibration | None:
    """Return the calibration that an index keeps of a space; None if it has none that can be used.

    It cannot be used if another version of vmr made it, if it is damaged, or if the space has grown or shrunk by half
    since it was made.

    Args:
        space: the space.
        rows: how many rows it has now.
    """
    try:
        calibration = Calibration.from_json(space.calibration)
    except IndexFileError:
        return None  # it is made again, as any that is out of date
    return calibration if calibration is not None and calibration.is_for(rows) else None


def keep_calibrated(writer: IndexWriter, encoders: Mapping[str, Encoder]) -> None:
    """Calibrate the spaces of an index that have no calibration which can be used.

    A space without a loaded encoder is left as it is: loading one would take longer than all the rest.

    Args:
        writer: the writer of the index, outside a commit.
        encoders: name of a space -> its encoder.

    Raises:
        VmrError: the calibration cannot be written. What was committed before stays.
    """
    made: dict[int, Calibration] = {}
    with writer.reader.snapshot() as snapshot:
        for space in snapshot.spaces():
            rows = snapshot.num_windows(space.id)
            if space.name not in encoders or kept_calibration(space, rows) is not None:
                continue
            with closing(SpaceStore(writer.folder, space)) as store:
                store.refresh(snapshot)
                found = calibrate(encoders[space.name], partial(_scores, store), rows)
            if found is not None:
                made[space.id] = found
    if made:
        with writer.commit() as changes:
            for space_id, calibration in made.items():
                changes.set_space(space_id, calibration=calibration.to_json())


def _scores(store: SpaceStore, queries: Vectors, k: int) -> Vectors:
    return store.search(queries, k)[0]
