"""One optimiser step: averages, clipping, and values that are not finite."""

import math

import pytest
import torch

from vmr.models.text.encoder import TextConfig
from vmr.models.text.tokenizer import CaptionTokenizer
from vmr.models.video_text import VideoTextConfig, VideoTextModel
from vmr.models.videomamba.encoder import VideoMambaConfig
from vmr.processes import Processes
from vmr.train.config import TrainConfig
from vmr.train.distributed import Parallelised
from vmr.train.optimizer import parameter_groups
from vmr.train.step import Stepper
from vmr.train.tasks.config import LossWeights, MaskConfig, ObjectiveConfig
from vmr.train.tasks.objective import Batch, Objective
from vmr.train.tasks.retrieval import Retrieval

ALONE = Processes(0, 1, torch.device("cpu"))
NONE = MaskConfig("none", 0.0)
CONTRASTIVE = LossWeights(1.0, 0.0, 0.0, 0.0)
MODEL = VideoTextConfig(
    VideoMambaConfig(width=16, num_layers=2, image_size=32, num_frames=2),
    TextConfig(width=16, num_layers=2, num_text_layers=1, num_heads=2, feed_forward=16, dropout=0.0),
    embed_dim=8,
)


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    return CaptionTokenizer()


def make_stepper(tokenizer, weights=CONTRASTIVE, precision="fp32", max_grad_norm=None) -> Stepper:
    torch.manual_seed(0)
    objective = Objective(VideoTextModel(MODEL), None, tokenizer, ObjectiveConfig(weights, NONE, NONE))
    groups = parameter_groups(objective.model.named_parameters(), learning_rate=0.1, weight_decay=0.0)
    optimizer = torch.optim.SGD(groups)
    parallelised = Parallelised(Retrieval(TrainConfig(), objective), "ddp", ALONE)
    return Stepper(parallelised, optimizer, ALONE, precision=precision, max_grad_norm=max_grad_norm)


def make_batch(tokenizer, seed: int, texts=("a red circle", "a blue square")) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    video = torch.randn(len(texts), 2, 3, 32, 32, generator=generator)
    return Batch(video, None, *tokenizer(texts, 16), torch.arange(len(texts)))


def weights_of(stepper: Stepper) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in stepper.parallelised.task.model.state_dict().items()}


def test_batches_of_a_step_are_averaged(tokenizer):
    batches = [make_batch(tokenizer, seed) for seed in (1, 2)]
    separate = []
    for batch in batches:
        stepper = make_stepper(tokenizer)
        before, result = weights_of(stepper), stepper([batch])
        after = weights_of(stepper)
        separate.append((result.losses["contrastive"], {name: after[name] - before[name] for name in before}))
    stepper = make_stepper(tokenizer)
    before, result = weights_of(stepper), stepper(batches)
    assert result.losses["contrastive"] == pytest.approx((separate[0][0] + separate[1][0]) / 2, rel=1e-6)
    for name, value in weights_of(stepper).items():
        mean = (separate[0][1][name] + separate[1][1][name]) / 2  # SGD moves along the gradient
        # The largest weights are up to 2.8, where float32 has steps of 2.4e-7.
        torch.testing.assert_close(value - before[name], mean, rtol=1e-4, atol=2.4e-7)


def test_gradients_are_clipped_together(tokenizer):
    batch = make_batch(tokenizer, 1)
    free, clipped = make_stepper(tokenizer), make_stepper(tokenizer, max_grad_norm=1e-3)
    before = weights_of(free)
    norm = free([batch]).grad_norm
    assert norm > 1e-3
    assert clipped([batch]).grad_norm == pytest.approx(norm, rel=1e-6)  # as it was
    moved = [(weights_of(stepper), stepper) for stepper in (free, clipped)]
    lengths = [math.sqrt(sum(((new[k] - before[k]) ** 2).sum().item() for k in before)) for new, _ in moved]
    assert lengths[0] == pytest.approx(0.1 * norm, rel=1e-3)  # the rate times the gradient
    assert lengths[1] == pytest.approx(0.1 * 1e-3, rel=1e-2)


def test_a_bad_loss_is_named_and_changes_nothing(tokenizer):
    stepper = make_stepper(tokenizer, weights=LossWeights(1.0, 1.0, 1.0, 0.0))
    model = stepper.parallelised.task.model
    with torch.no_grad():
        model.fusion.layers[0].cross_attention.value.weight.fill_(torch.nan)  # VTC does not look at it
    before = weights_of(stepper)
    result = stepper([make_batch(tokenizer, 1)])
    assert result.bad == "the matching loss"
    assert math.isfinite(result.losses["contrastive"]) and math.isnan(result.losses["matching"])
    after = weights_of(stepper)
    assert all(torch.equal(after[name], before[name]) or after[name].isnan().any() for name in before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_bad_gradient_is_named(tokenizer):
    stepper = make_stepper(tokenizer)
    model = stepper.parallelised.task.model
    hook = model.video_encoder.layers[1].mixer.D.register_hook(lambda gradient: gradient * torch.inf)
    before = weights_of(stepper)
    result = stepper([make_batch(tokenizer, 1)])
    assert result.bad == "the gradient of video_encoder.layers.1.mixer.D"
    after = weights_of(stepper)
    assert all(torch.equal(after[name], before[name]) for name in before)
    hook.remove()
    assert stepper([make_batch(tokenizer, 1)]).bad is None


def test_fp16_overflow_halves_the_scale_and_is_no_error(tokenizer):
    stepper = make_stepper(tokenizer, precision="fp16")
    stepper.scaler.load_state_dict({**stepper.scaler.state_dict(), "scale": 2.0**120})
    before = weights_of(stepper)
    result = stepper([make_batch(tokenizer, 1)])
    assert (result.bad, result.overflow) == (None, True)
    assert stepper.scaler.get_scale() == 2.0**119
    after = weights_of(stepper)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_bad_loss_in_fp16_does_not_break_the_next_step(tokenizer):
    stepper = make_stepper(tokenizer, precision="fp16")
    batch = make_batch(tokenizer, 1)
    assert stepper([batch._replace(video=batch.video * torch.nan)]).bad == "the contrastive loss"
    stepper.scaler.load_state_dict({**stepper.scaler.state_dict(), "scale": 64.0})
    result = stepper([batch])
    assert (result.bad, result.overflow) == (None, False)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_products_are_in_lower_precision_and_weights_are_not(tokenizer, precision, dtype):
    stepper = make_stepper(tokenizer, precision=precision)
    seen = []
    model = stepper.parallelised.task.model
    model.text_proj.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    stepper([make_batch(tokenizer, 1)])
    assert seen == [dtype]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
