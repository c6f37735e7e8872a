"""Training on two processes: gradients of the joint batch, exact resume under torchrun after kills and signals, FSDP
beside DDP.

VTC sees all rows, VTM and MLM draw among the rows of their own process. With the draws fixed, and as many masked words
in each half, the mean over processes is the loss of the joint batch, so all four losses are compared.
"""

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file

from tests.integration.processes import finish
from tests.integration.tiny_run import (
    VOCABULARY,
    assert_same_state,
    kill_after,
    start,
    step_where_it_stopped,
    steps_of,
    wait_for_step,
    write_config,
)
from tests.patience import PATIENCE_S
from vmr.data.training.loader import TrainBatch
from vmr.data.training.order import LoaderPosition
from vmr.losses import TokenDraws
from vmr.models.classification.config import NetworkConfig
from vmr.models.classification.distillation import DistilledClassifier
from vmr.models.teachers import EfficientNetTeacher
from vmr.models.text.encoder import TextConfig
from vmr.models.text.tokenizer import CaptionTokenizer
from vmr.models.video_text import VideoTextConfig, VideoTextModel
from vmr.models.videomamba.classifier import VideoMambaClassifier
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig
from vmr.models.videomamba.student import StudentConfig
from vmr.processes import Processes
from vmr.train.config import ModelConfig, TrainConfig
from vmr.train.distributed import Parallelised, averages, full_tensor, gradient_norm
from vmr.train.run_config import Parallel
from vmr.train.tasks.classification import Classification, Labelled
from vmr.train.tasks.config import ClassificationConfig, DistillationConfig, MaskConfig, MaskedConfig, ObjectiveConfig
from vmr.train.tasks.masked import Clips, Masked
from vmr.train.tasks.objective import Batch, Draws, Objective
from vmr.train.tasks.retrieval import Retrieval
from vmr.train.tasks.task import Task

WORLD = 2
NETWORK = NetworkConfig(width=16, num_layers=2, image_size=32, patch_size=8, num_frames=2, num_classes=3)
MODEL = VideoTextConfig(
    VideoMambaConfig(width=16, num_layers=2, image_size=32, patch_size=8, num_frames=2, student=StudentConfig(112)),
    TextConfig(
        vocab_size=40, width=16, num_layers=3, num_text_layers=2, num_heads=2, feed_forward=32, max_positions=24,
        dropout=0.0,
    ),
    embed_dim=8,
)  # fmt: skip
TEXTS = ("a red circle moves up", "a blue square moves left", "a white cross moves down", "the green circle enters at")


def make_objective() -> Objective:
    torch.manual_seed(0)
    config = ObjectiveConfig(video_mask=MaskConfig("attention", 0.5))
    return Objective(VideoTextModel(MODEL), EfficientNetTeacher(grid_size=4), CaptionTokenizer(str(VOCABULARY)), config)


def joint_batch(tokenizer: CaptionTokenizer) -> tuple[Batch, Draws]:
    """Four pairs, two for each process; id 3 occurs in both halves."""
    generator = torch.Generator().manual_seed(1)
    input_ids, attention_mask = tokenizer(TEXTS, 24)  # (4, 7): as many tokens in each
    video = torch.randn(4, 2, 3, 32, 32, generator=generator)
    teacher_video = torch.randn(4, 2, 3, 64, 64, generator=generator)
    importance = torch.rand(8, 16, generator=generator).argsort(dim=1)
    masked = torch.zeros(4, 7, dtype=torch.bool)
    masked[:, 2:4] = True
    replaced = torch.rand(4, 7, generator=generator) < 0.5
    words = torch.randint(40, (4, 7), generator=generator)
    tokens = TokenDraws(masked, replaced, ~replaced, words)
    batch = Batch(video, teacher_video, input_ids, attention_mask, torch.tensor([3, 5, 3, 8]))
    return batch, Draws(importance, torch.tensor([1, 0, 3, 2]), torch.tensor([1, 0, 3, 2]), tokens)


def half_of(batch: Batch, draws: Draws, rank: int) -> tuple[Batch, Draws]:
    rows, frames = slice(2 * rank, 2 * rank + 2), slice(4 * rank, 4 * rank + 4)
    assert draws.tokens is not None and draws.importance is not None
    other = torch.tensor([1, 0])
    tokens = TokenDraws(*(part[rows] for part in draws.tokens))
    return Batch(*(None if part is None else part[rows] for part in batch)), Draws(
        draws.importance[frames], other, other, tokens
    )


def make_masked() -> Masked:
    torch.manual_seed(0)
    masked = MaskedConfig(MaskConfig("clip_row", 0.5))
    return Masked(TrainConfig(task="masked", masked=masked), VideoMamba(MODEL.video), EfficientNetTeacher(grid_size=4))


def joint_clips() -> tuple[Clips, torch.Tensor]:
    """Four clips, two for each process, and the order of the rows of each."""
    batch, _ = joint_batch(CaptionTokenizer(str(VOCABULARY)))
    assert batch.teacher_video is not None
    order = torch.rand(4, 8, generator=torch.Generator().manual_seed(2)).argsort(dim=1)
    return Clips(batch.video, batch.teacher_video), order


def masked_half(rank: int) -> tuple[Clips, torch.Tensor]:
    clips, order = joint_clips()
    half = slice(2 * rank, 2 * rank + 2)
    return Clips(*(part[half] for part in clips)), order[half]


def make_classification() -> Classification:
    torch.manual_seed(0)
    learning = ClassificationConfig(erasing=0.0, distillation=DistillationConfig("a smaller one"))
    config = TrainConfig(task="classification", model=ModelConfig(network=NETWORK), classification=learning)
    teacher = VideoMambaClassifier(replace(NETWORK, width=8)).eval()
    return Classification(config, DistilledClassifier(NETWORK, 8), teacher)


def mixed_half(task: Classification, rank: int) -> Labelled:
    """One half of four labelled clips, mixed as the loop lets each process mix its own."""
    pixels = np.random.default_rng(3).integers(0, 256, (4, 2, 3, 32, 32), np.uint8)
    rows, start = slice(2 * rank, 2 * rank + 2), LoaderPosition(1, (2,), (None,), 0, rank, WORLD, (4,))
    labels = np.array([0, 2, 1, 1])
    batch = TrainBatch("video", pixels[rows], ("", ""), np.arange(4)[rows], start, (), labels[rows])
    return task.prepare(batch, np.random.default_rng(7), np.random.default_rng(rank))


def half_gradients(
    task: Task, arguments: Sequence[Any], parallel: Parallel, processes: Processes
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of one half of the clips, and the gradients of both."""
    parallelised = Parallelised(task, parallel, processes)  # the backward pass needs it as well
    loss = torch.stack(list(parallelised(*arguments).values())).sum()
    loss.backward()
    found = {name: full_tensor(p.grad) for name, p in task.model.named_parameters() if p.grad is not None}
    return loss.detach(), found


def work(rank: int, folder: str) -> None:
    """One of two processes: gradients of its half, at once and in two pieces, by DDP and, where it can, by FSDP."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    processes = Processes(rank, WORLD, torch.device("cpu"))
    found: dict[Any, Any] = {}
    for parallel in ("ddp", "fsdp") if averages(processes) else ("ddp",):
        for num_pieces in (1, 2):
            objective = make_objective()
            half = half_of(*joint_batch(objective.tokenizer), rank)
            parallelised = Parallelised(Retrieval(TrainConfig(), objective), parallel, processes)
            for piece in range(num_pieces):  # the same again: their mean is the same gradient
                with parallelised.accumulating(piece + 1 < num_pieces):
                    losses = parallelised(*half)
                    (torch.stack(list(losses.values())).sum() / num_pieces).backward()
            gradients = {name: full_tensor(parameter.grad) for name, parameter in objective.model.named_parameters()}
            norm = gradient_norm(objective.model.parameters())
            found[parallel, num_pieces] = {name: loss.item() for name, loss in losses.items()}, gradients, norm
        found[parallel, "masked"] = half_gradients(make_masked(), masked_half(rank), parallel, processes)
        task = make_classification()
        found[parallel, "classification"] = half_gradients(task, [mixed_half(task, rank)], parallel, processes)
    found["share"] = processes.share(f"of {rank}"), processes.collect(rank), processes.any(rank == 1, False)
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict[Any, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, args=(str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


@pytest.mark.parametrize("num_pieces", [1, 2])
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_gradients_are_those_of_the_joint_batch(ranks, parallel, num_pieces):
    if (parallel, num_pieces) not in ranks[0]:
        pytest.skip("this PyTorch cannot average on CPUs as FSDP does")
    objective = make_objective()
    batch, draws = joint_batch(objective.tokenizer)
    losses = objective(batch, draws)
    assert set(losses) == {"contrastive", "matching", "masked_lm", "alignment"}
    torch.stack(list(losses.values())).sum().backward()
    of_ranks = [rank[parallel, num_pieces] for rank in ranks]
    for name, loss in losses.items():
        mean = sum(found[0][name] for found in of_ranks) / WORLD
        assert mean == pytest.approx(loss.item(), rel=1e-5)
    for _, gradients, norm in of_ranks:
        for name, parameter in objective.model.named_parameters():
            # A gradient is a sum over all tokens: its rounding error is that of the largest terms.
            atol = 1e-6 * max(1.0, parameter.grad.abs().max().item())
            assert torch.allclose(gradients[name], parameter.grad, rtol=1e-5, atol=atol), name
        assert norm.item() == pytest.approx(gradient_norm(objective.model.parameters()).item(), rel=1e-5)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("name", ["masked", "classification"])
def test_other_tasks_have_the_gradients_of_the_joint_batch(ranks, name, parallel):
    """Clips are mixed within the half of each process, but in the same way in both."""
    if (parallel, name) not in ranks[0]:
        pytest.skip("this PyTorch cannot average on CPUs as FSDP does")
    if name == "masked":
        task = make_masked()
        loss = task(*joint_clips())["alignment"]
    else:
        task = make_classification()
        loss = torch.stack([sum(task(mixed_half(task, rank)).values()) for rank in range(WORLD)]).mean()
    loss.backward()
    (one, gradients), (other, same) = (rank[parallel, name] for rank in ranks)
    assert ((one + other) / WORLD).item() == pytest.approx(loss.item(), rel=1e-5)
    assert abs(one - other).item() > 1e-3  # each saw its own half
    for key, parameter in task.model.named_parameters():
        if parameter.grad is not None and parameter.grad.any():
            atol = 1e-6 * max(1.0, parameter.grad.abs().max().item())
            assert torch.allclose(gradients[key], parameter.grad, rtol=1e-5, atol=atol), key
            assert torch.equal(gradients[key], same[key]), key


def test_halves_alone_have_other_gradients(ranks):
    """Without gathering for the contrastive loss, the gradients differ, so the test above would notice it."""
    objective = make_objective()
    batch, draws = joint_batch(objective.tokenizer)
    for rank in range(WORLD):
        losses = objective(*half_of(batch, draws, rank))
        (torch.stack(list(losses.values())).sum() / WORLD).backward()
    joint = ranks[0]["ddp", 1][1]
    name = "video_proj.weight"
    own = objective.model.video_proj.weight.grad
    assert (own - joint[name]).norm() > 0.05 * joint[name].norm()


def test_processes_talk(ranks):
    assert [rank["share"] for rank in ranks] == [("of 0", [0, 1], [True, False])] * 2


# -- the command under torchrun ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config_file(footage, annotations, tmp_path_factory) -> Path:
    """18 steps in two stages; a worker of each process decodes."""
    run = {"checkpoint_every": 6}
    return write_config(tmp_path_factory.mktemp("config"), footage, num_steps=(10, 8), num_workers=1, run=run)


def start_two(config: Path, out: Path, *arguments: object) -> subprocess.Popen:
    return start(config, "--run.out", out, *arguments, world=WORLD)


@pytest.fixture(scope="module")
def straight(config_file, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("straight") / "run"
    assert finish(start_two(config_file, out)).count("trained: ") == 1  # only one process prints
    return out


def weights_of(out: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoints" / "step-00000018" / f"{name}.safetensors")


def test_each_process_has_its_place_in_the_data(straight):
    state = json.loads((straight / "checkpoints" / "step-00000018" / "state.json").read_text())
    assert [position["rank"] for position in state["positions"]] == [0, 1]
    assert [position["batch"] for position in state["positions"]] == [18, 18]
    assert [sum(position["taken"]) for position in state["positions"]] == [36, 36]  # 2 pairs a step each
    assert all(position["stream_states"][2]["within"] for position in state["positions"])  # within a file of the stream


def test_resume_is_exact_after_signals_and_a_kill(straight, config_file, tmp_path):
    """One run is stopped again and again. A signal stops all processes at one step, although it reaches one process
    alone, or torchrun, which passes it on to one after the other.
    """
    out, steps = tmp_path / "run", []
    options = ("--run.checkpoint_every", 1000, "--run.log_every", 1)  # no checkpoint comes by itself before the end
    for rank in (0, 1, None):
        process = start_two(config_file, out, *options)
        wait_for_step(process, out, sum(steps[-1:]) + 2)
        if rank is None:
            os.kill(process.pid, signal.SIGINT)
        else:
            ranks = {one.environ().get("RANK"): one for one in psutil.Process(process.pid).children()}
            ranks[str(rank)].terminate()
        printed, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode != 0
        assert ("resumes from" in printed) == bool(steps)
        step = step_where_it_stopped(printed, out, "SIGINT" if rank is None else "SIGTERM", 18)
        steps.append(step)
        assert steps_of(out) == steps
        checkpoint = out / "checkpoints" / f"step-{step:08}"
        positions = json.loads((checkpoint / "state.json").read_text())["positions"]
        assert [position["batch"] for position in positions] == [step, step]
    killed = start_two(config_file, out, "--run.checkpoint_every", 1)
    kill_after(killed, out, steps[-1] + 1)
    assert not (out / "checkpoints" / "step-00000018").exists()
    assert "resumes from" in finish(start_two(config_file, out))
    assert_same_state(out, straight, 18)


def test_fsdp_trains_as_ddp_does(ranks, straight, config_file, tmp_path):
    """The run is stopped and resumed, so that its state is gathered, saved, loaded and distributed again."""
    out = tmp_path / "run"
    if ("fsdp", 1) not in ranks[0]:
        printed, _ = start_two(config_file, out, "--run.parallel", "fsdp").communicate(timeout=PATIENCE_S)
        assert "error: run.parallel: fsdp on CPUs needs PyTorch 2.10 or newer: choose ddp" in printed
        pytest.skip("this PyTorch cannot average on CPUs as FSDP does")
    finish(start_two(config_file, out, "--run.parallel", "fsdp", "--run.stop_after_steps", 6))
    finish(start_two(config_file, out, "--run.parallel", "fsdp"))
    for name in ("model", "optimizer", "ema"):
        one, other = weights_of(out, name), weights_of(straight, name)
        assert one.keys() == other.keys()
        for key in one:
            assert torch.allclose(one[key], other[key], rtol=1e-4, atol=1e-5), key


def test_what_does_not_divide_is_refused(config_file, tmp_path):
    process = start_two(config_file, tmp_path / "run", "--data.batch_size.video", 3)
    printed, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0
    assert "error: batch_size.video is 3, which 2 processes cannot share evenly" in printed


def test_another_number_of_processes_is_refused(straight, config_file, capsys):
    from vmr.cli.train import main

    with pytest.raises(SystemExit) as caught:
        main([str(config_file), "--run.out", str(straight)])
    assert caught.value.code == 2
    assert "its run has 2 processes, not 1" in capsys.readouterr().err
