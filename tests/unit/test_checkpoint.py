"""Checkpoints: complete or absent, without loss, and refused if they are of another model."""

import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vmr.errors import VmrError
from vmr.processes import ALONE
from vmr.train.checkpoint import (
    TrainState,
    find_resumable,
    first_difference,
    list_checkpoints,
    load_optimizer,
    load_weights,
    model_tensors,
    newest_intact,
    optimizer_tensors,
    prune,
    read_state,
    save_checkpoint,
)
from vmr.train.config import TrainConfig
from vmr.train.optimizer import parameter_groups
from vmr.train.run_config import RunConfig

STATE = TrainState(
    step=40,
    positions=[{"batch": 3, "taken": [12, 4]}],
    scaler={},
    num_bad_steps=1,
    best={"step": 20, "metrics": {"text_to_video/R@1": 12.5}},
    config={"run": {"seed": 0}},
)


class Net(nn.Module):
    """Two layers of which the second is not always used, and a scalar."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.first = nn.Linear(2, width)
        self.unused = nn.Linear(width, 2)
        self.temperature = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(x).square().sum() * self.temperature


def trained(width: int = 3, num_steps: int = 3) -> tuple[Net, torch.optim.AdamW]:
    torch.manual_seed(0)
    net = Net(width)
    optimizer = torch.optim.AdamW(parameter_groups(net.named_parameters(), learning_rate=0.1, weight_decay=0.1))
    for _ in range(num_steps):
        step(net, optimizer)
    return net, optimizer


def step(net: Net, optimizer: torch.optim.AdamW) -> None:
    optimizer.zero_grad()
    net(torch.ones(4, 2)).backward()
    optimizer.step()


def save(folder: Path, step: int = 40, **tensors: torch.Tensor) -> Path:
    return save_checkpoint(folder, {"model": tensors or {"a": torch.arange(3.0)}}, replace(STATE, step=step))


def test_a_run_goes_on_as_if_it_had_not_stopped(tmp_path):
    straight = trained(num_steps=5)
    net, optimizer = trained(num_steps=3)
    path = save_checkpoint(tmp_path, {"model": model_tensors(net), "optimizer": optimizer_tensors(optimizer)}, STATE)
    torch.manual_seed(99)
    other = Net()
    resumed = other, torch.optim.AdamW(parameter_groups(other.named_parameters(), learning_rate=0.1, weight_decay=0.1))
    load_weights(resumed[0], path / "model.safetensors")
    load_optimizer(resumed[1], path / "optimizer.safetensors")
    assert not any(value.requires_grad for of_one in resumed[1].state.values() for value in of_one.values())
    for _ in range(2):
        step(*resumed)
    for name, value in straight[0].state_dict().items():
        assert torch.equal(resumed[0].state_dict()[name], value)
    expected, found = optimizer_tensors(straight[1]), optimizer_tensors(resumed[1])
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_optimiser_state_is_named_tensors(tmp_path):
    _, optimizer = trained(num_steps=3)
    path = save_checkpoint(tmp_path, {"optimizer": optimizer_tensors(optimizer)}, STATE)
    found = load_file(path / "optimizer.safetensors")
    # the layer that had no gradient has no state
    names = {f"{name}/{key}" for name in ("first.weight", "first.bias", "temperature")
             for key in ("step", "exp_avg", "exp_avg_sq")}  # fmt: skip
    assert set(found) == names
    assert found["first.weight/step"].item() == 3
    assert found["first.weight/exp_avg"].shape == (3, 2)


def test_state_comes_back(tmp_path):
    path = save(tmp_path)
    assert path == tmp_path / "step-00000040"
    assert sorted(file.name for file in path.iterdir()) == ["model.safetensors", "state.json"]
    assert asdict(read_state(path)) == asdict(STATE)
    assert json.loads((path / "state.json").read_text())["schema"] == "vmr-checkpoint/1"
    assert not list(tmp_path.glob(".*"))


def test_newest_first_and_beyond_eight_digits(tmp_path):
    for number in (9, 100, 20_000_000, 100_000_000):
        save(tmp_path, number)
    for other in ("notes", "step-0000040", "step-00000040-old", "old-step-00000040"):
        (tmp_path / other).mkdir()
    names = [path.name for path in list_checkpoints(tmp_path)]
    assert names == ["step-100000000", "step-20000000", "step-00000100", "step-00000009"]
    assert list_checkpoints(tmp_path / "absent") == []


def damage_bytes(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: damage_bytes(path / "model.safetensors"), "model.safetensors is damaged"),
        (lambda path: (path / "model.safetensors").write_bytes(b""), "model.safetensors is damaged"),
        (lambda path: (path / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda path: (path / "state.json").unlink(), "state.json is damaged"),
        (lambda path: (path / "state.json").write_text('{"schema": '), "state.json is damaged"),
        (lambda path: (path / "state.json").write_text("[]"), "state.json is damaged"),
        (lambda path: (path / "state.json").write_text('{"schema": "x", "files": {}}'), "state.json is damaged"),
    ],
    ids=["bit", "empty", "no weights", "no state", "half a state", "a list", "no fields"],
)
def test_a_damaged_one_is_named_and_the_one_before_is_taken(tmp_path, damage, message):
    save(tmp_path, 20)
    damage(save(tmp_path, 40))
    found = newest_intact(tmp_path)
    assert found is not None
    assert found.path.name == "step-00000020"
    assert found.state.step == 20
    (problem,) = found.problems
    assert message in problem
    shutil.rmtree(tmp_path / "step-00000020")
    with pytest.raises(VmrError, match="no checkpoint can be read"):
        newest_intact(tmp_path)


def test_another_schema_is_not_read(tmp_path):
    file = save(tmp_path) / "state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema": "vmr-checkpoint/9"}))
    with pytest.raises(VmrError, match="schema is 'vmr-checkpoint/9'"):
        read_state(file.parent)


def test_no_checkpoint_is_no_error(tmp_path):
    assert newest_intact(tmp_path) is None
    assert newest_intact(tmp_path / "absent") is None


def test_the_newest_and_the_best_are_kept(tmp_path):
    for number in (10, 20, 30, 40):
        save(tmp_path, number)
    (tmp_path / ".step-00000050.tmp").mkdir()  # what a kill leaves
    (tmp_path / ".step-00000050.tmp" / "model.safetensors").write_bytes(b"half")
    (tmp_path / ".step-file").write_text("no folder: it cannot be removed as one, which must not end a run")
    prune(tmp_path, keep=2, best_step=10, last_step=40)
    kept = [".step-file", *(f"step-000000{n}" for n in (10, 30, 40))]
    assert [path.name for path in sorted(tmp_path.iterdir())] == kept


def test_a_damaged_checkpoint_of_a_later_step_is_not_kept_instead_of_a_whole_one(tmp_path):
    for number in (10, 20, 30, 40):
        save(tmp_path, number)
    (tmp_path / "step-00000040" / "model.safetensors").write_bytes(b"half")
    prune(
        tmp_path, keep=1, best_step=None, last_step=30
    )  # of a run that was resumed at step 20 and has reached step 30
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000030", "step-00000040"]
    assert newest_intact(tmp_path).path.name == "step-00000030"


def test_a_step_can_be_saved_again(tmp_path):
    save(tmp_path, 40, a=torch.zeros(2))
    for rest in (".step-00000040.tmp", ".step-00000040.removed"):  # what kills have left
        (tmp_path / rest).mkdir()
        (tmp_path / rest / "model.safetensors").write_bytes(b"half")
    path = save(tmp_path, 40, a=torch.ones(2))
    assert load_file(path / "model.safetensors")["a"].tolist() == [1, 1]
    assert read_state(path).step == 40
    prune(tmp_path, keep=1, best_step=None, last_step=40)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-00000040"]


def test_another_model_is_refused(tmp_path):
    net, optimizer = trained(width=3)
    path = save_checkpoint(tmp_path, {"model": model_tensors(net), "optimizer": optimizer_tensors(optimizer)}, STATE)
    weights, moments = path / "model.safetensors", path / "optimizer.safetensors"
    other, other_optimizer = trained(width=4)
    with pytest.raises(VmrError) as caught:
        load_weights(other, weights)
    assert str(caught.value) == f"{weights}: first.weight is (3, 2), but this model takes (4, 2)"
    with pytest.raises(VmrError, match=rf"^{re.escape(str(moments))}: first\.\w+/exp_avg is"):
        load_optimizer(other_optimizer, moments)
    with pytest.raises(VmrError) as caught:
        load_weights(nn.Sequential(nn.Linear(2, 3)), weights)
    assert str(caught.value) == f"{weights}: is of another model: lacks 0.weight"
    smaller = nn.Module()
    smaller.first = nn.Linear(2, 3)
    with pytest.raises(VmrError, match=rf"^{re.escape(str(weights))}: is of another model: has (temperature|unused)"):
        load_weights(smaller, weights)
    of_smaller = torch.optim.AdamW(parameter_groups(smaller.named_parameters(), learning_rate=0.1, weight_decay=0.1))
    with pytest.raises(VmrError) as caught:
        load_optimizer(of_smaller, moments)
    assert str(caught.value) == f"{moments}: the model has no parameter temperature"


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        ({"run": {"seed": 0}}, {"run": {"seed": 0}}, None),
        ({"run": {"seed": 0}}, {"run": {"seed": 1}}, "run.seed is 0, but 1 in the other"),
        ({"a": 1, "b": [1, {"c": 2}]}, {"a": 1, "b": [1, {"c": 3}]}, "b[1].c is 2, but 3 in the other"),
        ({"a": 1}, {}, "a is 1, but None in the other"),
        ({}, {"a": {"b": 1}}, "a is None, but {'b': 1} in the other"),
        ({"b": [1, 2]}, {"b": [1]}, "b are 2, but 1 in the other"),
        ({"b": [1, 2]}, {"b": [3]}, "b[0] is 1, but 3 in the other"),  # a value is named before a length
        ({"b": []}, {"b": {}}, "b is [], but {} in the other"),
        ({"a": {}, "b": 1}, {"a": {}, "b": 2}, "b is 1, but 2 in the other"),  # an equal part does not end the search
        ({"a": [1], "b": 1}, {"a": [1], "b": 2}, "b is 1, but 2 in the other"),
        ({"a": "x" * 99}, {"a": ""}, f"a is '{'x' * 59}, but '' in the other"),  # cut to 60 characters
    ],
)
def test_the_first_difference_of_two_configs_is_named(own, other, expected):
    assert first_difference(own, other) == expected


def resumable(out: Path, config: TrainConfig):
    return find_resumable(out, out / "checkpoints", config, ALONE)


def test_a_run_finds_its_own_checkpoint(tmp_path):
    config = TrainConfig()
    assert resumable(tmp_path, config) is None
    content = {"model": {"a": torch.arange(3.0)}}
    for number in (20, 40):
        state = replace(STATE, step=number, config=config.essentials())
        path = save_checkpoint(tmp_path / "checkpoints", content, state)
    damage_bytes(path / "model.safetensors")
    found = resumable(tmp_path, config)
    assert (found.path.name, found.state.step, len(found.problems)) == ("step-00000020", 20, 1)
    assert resumable(tmp_path, replace(config, run=RunConfig(keep=9))) == found  # how many are kept changes no number


def test_a_run_does_not_go_on_with_what_is_not_its_own(tmp_path):
    config, content = TrainConfig(), {"model": {"a": torch.arange(3.0)}}
    state = replace(STATE, config=config.essentials())
    path = save_checkpoint(tmp_path / "checkpoints", content, state)
    with pytest.raises(VmrError) as caught:
        resumable(tmp_path, replace(config, run=RunConfig(resume=False)))
    assert str(caught.value) == (
        f"{tmp_path}: holds a run already: name another run.out, or leave run.resume true to go on with it"
    )
    with pytest.raises(VmrError) as caught:
        resumable(tmp_path, replace(config, run=RunConfig(seed=5)))
    assert str(caught.value) == (
        f"{tmp_path}: holds another run: run.seed is 5, but 0 in the other: name another run.out, or use its config"
    )
    save_checkpoint(tmp_path / "checkpoints", content, replace(state, positions=STATE.positions * 3))
    with pytest.raises(VmrError, match="its run has 3 processes, not 1: use as many"):
        resumable(tmp_path, config)
    (path / "state.json").unlink()
    with pytest.raises(VmrError, match=r"no checkpoint can be read: .*state\.json is damaged"):
        resumable(tmp_path, config)
