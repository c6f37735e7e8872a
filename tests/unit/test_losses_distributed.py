"""The contrastive loss on two processes with half of a batch each, against one process with all of it."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vmr.errors import VmrError
from vmr.losses import contrastive_loss

NUM_PROCESSES = 2
IDS = torch.tensor([5, 7, 5, 9, 7, 5])  # ids 5 and 7 have rows in both halves
CASES = tuple(product((None, "exact", "upstream"), (True, False)))  # gather or its default, and whether ids are given


class Towers(nn.Module):
    """One linear encoder for frames and texts, so that both gradients meet in it, and a temperature."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(5, 4)
        self.temperature = nn.Parameter(torch.tensor(0.2))

    def forward(self, frames: Tensor, words: Tensor, ids: Tensor | None, gather: Any) -> Tensor:
        options = {} if gather is None else {"gather": gather}
        return contrastive_loss(self.encoder(frames), self.encoder(words), self.temperature, ids, **options)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 3, 5, generator=generator), torch.randn(6, 5, generator=generator)


def outcome(loss: Tensor, towers: Towers) -> dict[str, Tensor]:
    return {
        "loss": loss.detach(),
        "encoder": torch.cat([parameter.grad.flatten() for parameter in towers.encoder.parameters()]),
        "temperature": towers.temperature.grad,
    }


def work(rank: int, folder: str) -> None:
    """One of the processes: its half of the batch through DistributedDataParallel."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=NUM_PROCESSES)
    half = slice(3 * rank, 3 * rank + 3)
    frames, words = (rows[half] for rows in batch())
    found: dict[Any, Any] = {}
    for gather, with_ids in CASES:
        towers = Towers()
        parallel = DistributedDataParallel(towers)  # averages gradients for as long as it lives
        loss = parallel(frames, words, IDS[half] if with_ids else None, gather)
        loss.backward()
        found[gather, with_ids] = outcome(loss, towers)
    try:
        contrastive_loss(words[: 2 + rank], words[: 2 + rank], 0.2)
    except VmrError as error:
        found["uneven"] = str(error)
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    """The result of each process."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, args=(str(folder),), nprocs=NUM_PROCESSES)
    return [torch.load(folder / f"{rank}.pt") for rank in range(NUM_PROCESSES)]


@pytest.fixture(scope="module", params=[True, False], ids=["ids", "no_ids"])
def with_ids(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture(scope="module")
def whole(with_ids: bool) -> dict[str, Tensor]:
    """The result of one process with the whole batch."""
    towers = Towers()
    loss = towers(*batch(), IDS if with_ids else None, "exact")
    loss.backward()
    return outcome(loss, towers)


@pytest.mark.parametrize("gather", [None, "exact"])
def test_exact_gradients_are_those_of_the_whole_batch(ranks, whole, with_ids, gather):
    for rank in ranks:
        for name, value in whole.items():
            torch.testing.assert_close(rank[gather, with_ids][name], value, rtol=1e-5, atol=1e-6)


def test_upstream_gives_the_encoder_half_and_the_temperature_all(ranks, whole, with_ids):
    for rank in ranks:
        found = rank["upstream", with_ids]
        torch.testing.assert_close(found["encoder"], whole["encoder"] / NUM_PROCESSES, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found["temperature"], whole["temperature"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found["loss"], whole["loss"], rtol=1e-5, atol=1e-6)


def test_halves_alone_have_other_gradients(whole, with_ids):
    """Without gathering, the gradients differ, so the tests above would notice it."""
    towers = Towers()
    for half in (slice(0, 3), slice(3, 6)):
        frames, words = (rows[half] for rows in batch())
        (towers(frames, words, IDS[half] if with_ids else None, "exact") / 2).backward()
    assert (outcome(torch.zeros(()), towers)["encoder"] - whole["encoder"]).norm() > 0.1 * whole["encoder"].norm()


def test_uneven_batches_are_refused_by_every_process(ranks):
    message = "processes have batches of [2, 3] rows; drop the last, incomplete batch of each epoch"
    assert [rank["uneven"] for rank in ranks] == [message] * 2
