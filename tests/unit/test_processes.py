"""Which device a process takes. The GPUs are only counted here: what torch would find on such a machine is given."""

import pytest
import torch

from vmr.errors import ModelError, VmrError
from vmr.models.catalogue import load_model
from vmr.processes import choose_device
from vmr.train.distributed import join_processes


@pytest.fixture
def gpus(monkeypatch):
    """Function that makes torch find this many GPUs, the current one of which is number 0."""

    def find(number: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch, "empty", lambda *size, device: size)

    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return find


@pytest.mark.parametrize(
    ("name", "number", "local_rank", "chosen"),
    [
        ("auto", 0, None, "cpu"),
        ("auto", 0, "3", "cpu"),
        ("auto", 8, None, "cuda:0"),
        ("auto", 8, "3", "cuda:3"),
        ("cuda", 8, "3", "cuda:3"),
        ("cuda", 2, "0", "cuda:0"),
        ("auto", 1, "3", "cuda:0"),  # a launcher that shows each process its own GPU alone
        ("cuda:5", 8, "3", "cuda:5"),  # what is named is taken
        ("cpu", 8, "3", "cpu"),
    ],
)
def test_each_process_has_its_own_device(gpus, monkeypatch, name, number, local_rank, chosen):
    gpus(number)
    if local_rank is not None:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    assert choose_device(name) == torch.device(chosen)


def test_encoders_take_the_device_of_their_process(gpus, monkeypatch):
    """`load_model` hands the chosen device to the encoder, which here would be put on the third GPU."""
    gpus(4)
    monkeypatch.setenv("LOCAL_RANK", "2")
    given = []
    monkeypatch.setattr("vmr.models.families.offline.OfflineEncoder", given.append)
    load_model("offline", "cuda")
    assert given == ["cuda:2"]


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "", "cuda:99"])
def test_a_device_that_is_not_there(name):
    for choose, error, said in (
        (choose_device, VmrError, f"device {name!r} is not available"),
        (lambda name: load_model("offline", name), ModelError, f"device {name!r} is not available"),
        (lambda name: join_processes(name).__enter__(), VmrError, f"run.device {name!r} is not available"),
    ):
        with pytest.raises(error, match=f"^{said}: use cpu, cuda or auto$"):
            choose(name)


@pytest.mark.parametrize("name", [None, 3, True])
def test_a_device_has_a_name(name):
    with pytest.raises(ModelError, match="device"):
        load_model("offline", name)
