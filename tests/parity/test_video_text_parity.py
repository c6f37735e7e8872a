"""The video-text model, its teacher, its four losses and their gradients equal upstream's up to rounding.

`video_text_golden.npz` holds what upstream computes in float64 from the weights and inputs of `fill.py`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.parity.adapter import Adapter, Umt
from tests.parity.fill import (
    make_draws,
    make_input,
    make_permutations,
    make_texts,
    small_teacher_weights,
    small_video_text_weights,
)
from vmr.ops import available_backends
from vmr.ops.backend import Backend

VISION = {"embed_dim": 64, "depth": 4, "img_size": 64, "num_frames": 4, "clip_output_dim": 32}
BERT = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 1000,
    "max_position_embeddings": 64,
    "fusion_layer": 2,
}
TEACHER = {
    "input_resolution": 64,
    "patch_size": 16,
    "width": 64,
    "layers": 3,
    "heads": 4,
    "output_dim": 32,
    "clip_return_layer": 1,
}
MASKED = {
    "vision": VISION,
    "teacher": TEACHER,
    "bert": BERT,
    "embed_dim": 32,
    "loss_weight": {"vtc": 1.0, "vtm": 1.0, "mlm": 1.0, "uta": 1.0},
    "mask": {
        "video_mask_type": "attention",
        "video_mask_ratio": 0.8,
        "image_mask_type": "attention",
        "image_mask_ratio": 0.5,
    },
}
UNMASKED = {
    **MASKED,
    "teacher": None,
    "loss_weight": {"vtc": 1.0, "vtm": 1.0, "mlm": 1.0, "uta": 0.0},
    "mask": {"video_mask_type": "none", "video_mask_ratio": 0, "image_mask_type": "none", "image_mask_ratio": 0},
}
GOLDEN = np.load(Path(__file__).with_name("video_text_golden.npz"))


def assert_golden(name: str, result: Tensor | None, tolerance: float = 3e-6) -> None:
    assert result is not None, name
    golden = torch.from_numpy(GOLDEN[name])
    assert result.shape == golden.shape, name
    error = result.detach() - golden
    assert error.norm() <= tolerance * golden.norm(), f"{name}: {error.norm() / golden.norm():.1e}"


def make_model(config: dict[str, Any], backend: Backend) -> Umt:
    weights = small_video_text_weights() | (small_teacher_weights() if config["teacher"] else {})
    return Adapter(backend).umt(config, weights)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(
    ("case", "config", "seed", "ids"),
    [
        ("masked", MASKED, "umt_tiny", [0, 1, 1, 2]),
        ("unmasked", UNMASKED, "umt_tiny_noteacher", [3, 1, 2, 3]),
    ],
    ids=["masked", "unmasked"],
)
def test_losses_and_gradients(backend: Backend, case: str, config: dict[str, Any], seed: str, ids: list[int]) -> None:
    if not available_backends()[backend].startswith("available"):
        pytest.skip(available_backends()[backend])
    model = make_model(config, backend)
    input_ids, mask = make_texts(seed, 4, 16, 1000)
    draws = make_draws(seed, 4, 4, 16, input_ids, 1000)
    video = make_input("umt", (4, 4, 3, 64, 64))
    losses = Adapter().umt_losses(model, video, input_ids, mask, torch.tensor(ids), draws)
    for name, loss in losses.items():
        assert_golden(f"{case}/{name}", loss)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    parameters = dict(model.named_parameters())
    gradients = [name for name in GOLDEN.files if name.startswith(f"{case}/grad.")]
    assert gradients
    for name in gradients:
        assert_golden(name, parameters[name.removeprefix(f"{case}/grad.")].grad, tolerance=5e-5)


def test_teacher_and_its_mask() -> None:
    model = make_model(MASKED, "auto")
    importance = make_permutations("timp", 16, 16)
    mask, features = Adapter().encode_teacher(model, make_input("umt", (4, 4, 3, 64, 64)), importance)
    assert mask is not None
    assert torch.equal(mask.float(), torch.from_numpy(GOLDEN["teacher/mask"]))
    assert_golden("teacher/features", features)


def test_reranked_evaluation_scores_what_a_full_comparison_does() -> None:
    model = make_model(UNMASKED, "auto")
    videos, (ids, mask) = make_input("retvid", (4, 4, 3, 64, 64)), make_texts("ret", 6, 16, 1000)
    video_to_text, text_to_video, _, similarity = Adapter().evaluation(model, videos, ids, mask, k_test=2)
    with torch.no_grad():
        tokens, text = model.model.encode_video(videos).video_tokens, model.model.encode_text(ids, mask).text_tokens
        logits = torch.stack(
            [model.model.match(text, mask, model.model.project_video(one[None]))[:, 1] for one in tokens]
        )
    best = similarity.topk(2, dim=1).indices  # each text's two best videos
    expected = torch.full((6, 4), -100.0).scatter(1, best, logits.T.gather(1, best))
    assert np.allclose(text_to_video, expected, rtol=1e-5)
    assert ((video_to_text > -100).sum(axis=1) == 2).all()
