"""The objective: its losses, the parameters that each changes, and batches with little to learn from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vmr.errors import ModelError
from vmr.models.teachers import EfficientNetTeacher
from vmr.models.text.encoder import TextConfig
from vmr.models.text.tokenizer import CaptionTokenizer
from vmr.models.video_text import VideoTextConfig, VideoTextModel
from vmr.models.videomamba.encoder import VideoMambaConfig
from vmr.models.videomamba.student import StudentConfig
from vmr.train.tasks.config import LossWeights, MaskConfig, ObjectiveConfig
from vmr.train.tasks.objective import Batch, Objective

CONFIG = VideoTextConfig(
    VideoMambaConfig(width=32, num_layers=2, image_size=64, num_frames=2, student=StudentConfig(teacher_dim=112)),
    TextConfig(width=32, num_layers=3, num_text_layers=2, num_heads=4, feed_forward=64, dropout=0.0),
    embed_dim=16,
)
UNMASKED = ObjectiveConfig(LossWeights(alignment=0.0), MaskConfig("none", 0.0), MaskConfig("none", 0.0))
LOSSES = {"alignment", "contrastive", "matching", "masked_lm"}


@pytest.fixture(scope="module")
def tokenizer():
    return CaptionTokenizer()


@pytest.fixture(scope="module")
def teacher():
    return EfficientNetTeacher(grid_size=4)


@pytest.fixture
def objective(teacher, tokenizer):
    torch.manual_seed(0)
    return Objective(VideoTextModel(CONFIG), teacher, tokenizer, ObjectiveConfig())


def make_batch(tokenizer, texts, num_frames=2, ids=None, max_length=16):
    torch.manual_seed(1)
    video = torch.randn(len(texts), num_frames, 3, 64, 64)
    ids = list(range(len(texts))) if ids is None else ids
    return Batch(video, video, *tokenizer(texts, max_length), torch.tensor(ids))


TEXTS = ["a red circle", "a blue square moves", "two green crosses"]


@pytest.mark.parametrize("num_frames", [1, 2])
def test_all_losses_reach_their_parts(objective, tokenizer, num_frames):
    result = objective(make_batch(tokenizer, TEXTS, num_frames))
    assert set(result) == LOSSES
    sum(result.values()).backward()
    untouched = {name for name, p in objective.model.named_parameters() if p.grad is None or not p.grad.any()}
    # time is not looked at in an image; token types other than the first, and positions beyond the text, are not used
    expected = {"video_encoder.temporal_pos_embedding"} if num_frames == 1 else set()
    assert untouched == expected


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_weight_scales_its_loss(teacher, tokenizer, name):
    torch.manual_seed(0)
    model, batch = VideoTextModel(CONFIG).eval(), make_batch(tokenizer, TEXTS)
    alone = LossWeights(**(dict.fromkeys(LOSSES, 0.0) | {name: 1.0}))

    def loss(weights: LossWeights):
        torch.manual_seed(2)
        return Objective(model, teacher, tokenizer, ObjectiveConfig(weights))(batch)

    (single,) = loss(alone).items()
    (doubled,) = loss(replace(alone, **{name: 2.0})).items()
    assert single[0] == doubled[0] == name
    assert torch.allclose(2 * single[1], doubled[1])


@pytest.mark.parametrize(
    ("texts", "ids"),
    [
        (TEXTS[:1], [0]),
        (TEXTS, [5, 5, 5]),
        (["", "", ""], None),
        (["word " * 50] * 3, None),
    ],
    ids=["batch of one", "all the same video", "empty captions", "captions over the limit"],
)
def test_little_to_learn_from(objective, tokenizer, texts, ids):
    result = objective(make_batch(tokenizer, texts, ids=ids))
    assert set(result) == LOSSES
    total = sum(result.values())
    total.backward()
    assert total.isfinite()
    assert all(p.grad.isfinite().all() for p in objective.model.parameters() if p.grad is not None)


def test_one_pair_alone_has_nothing_to_contrast(objective, tokenizer):
    assert objective(make_batch(tokenizer, TEXTS[:1]))["contrastive"].item() == 0.0  # a softmax over one column


def test_the_teacher_is_no_part_of_the_model(objective, tokenizer):
    assert not [name for name, _ in objective.named_parameters() if "teacher" in name or "network" in name]
    assert not [name for name in objective.state_dict() if "network" in name]
    before = {name: value.clone() for name, value in objective.teacher.state_dict().items()}
    objective.train()
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1)
    sum(objective(make_batch(tokenizer, TEXTS)).values()).backward()
    optimizer.step()
    assert not objective.teacher.training
    assert all(torch.equal(before[name], value) for name, value in objective.teacher.state_dict().items())


def test_unmasked_stage_needs_no_teacher(tokenizer):
    objective = Objective(VideoTextModel(CONFIG), None, tokenizer, UNMASKED)
    batch = make_batch(tokenizer, TEXTS)._replace(teacher_video=None)
    assert set(objective(batch)) == LOSSES - {"alignment"}


def test_stages_follow_each_other(objective, tokenizer):
    batch = make_batch(tokenizer, TEXTS)
    mask, target = objective.run_teacher(batch)
    # of 4 x 4 patches 16 - int(12.8) = 4 are kept in each of 2 frames
    assert (~mask).sum(dim=1).tolist() == [1 + 2 * 4] * 3
    assert target.shape == (1, 3, 9, 112)
    objective.set_config(UNMASKED)
    assert objective.run_teacher(batch) == (None, None)
    assert "alignment" not in objective(batch)


def test_temperature_is_kept_in_its_range(objective, tokenizer):
    with torch.no_grad():
        objective.model.temperature.fill_(3.0)
    objective(make_batch(tokenizer, TEXTS))
    assert objective.model.temperature.item() == 0.5


def test_chance_can_be_repeated(objective, tokenizer):
    batch = make_batch(tokenizer, TEXTS)
    objective.eval()
    results = []
    for _ in range(2):
        torch.manual_seed(7)
        results.append(torch.stack(list(objective(batch).values())))
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ObjectiveConfig(), "need a teacher"),
        (ObjectiveConfig(LossWeights(alignment=0.0)), "need a teacher"),
    ],
)
def test_a_teacher_is_missed_at_once(tokenizer, config, message):
    with pytest.raises(ModelError, match=message):
        Objective(VideoTextModel(CONFIG), None, tokenizer, config)


def test_a_teacher_of_another_grid(tokenizer):
    with pytest.raises(ModelError, match="grid is 7 x 7"):
        Objective(VideoTextModel(CONFIG), EfficientNetTeacher(grid_size=7), tokenizer, ObjectiveConfig())


def test_alignment_without_masks():
    with pytest.raises(ModelError, match="alignment needs masks"):
        ObjectiveConfig(video_mask=MaskConfig("none", 0.0))


def test_masks_count_tubelets(tokenizer):
    video = replace(CONFIG.video, tubelet_size=2, num_frames=4, student=None)
    config = replace(UNMASKED, video_mask=MaskConfig("tube", 0.5), image_mask=MaskConfig("tube", 0.5))
    objective = Objective(VideoTextModel(replace(CONFIG, video=video)), None, tokenizer, config)
    mask, _ = objective.run_teacher(make_batch(tokenizer, TEXTS, num_frames=4))
    assert (~mask).sum(dim=1).tolist() == [1 + 2 * 8] * 3  # 2 steps of 4 x 4 patches, half of them kept
    assert objective(make_batch(tokenizer, TEXTS, num_frames=4))["contrastive"].isfinite()


def test_a_token_of_two_frames_learns_from_the_second(teacher, tokenizer):
    video = replace(CONFIG.video, tubelet_size=2, num_frames=4)
    objective = Objective(VideoTextModel(replace(CONFIG, video=video)), teacher, tokenizer, ObjectiveConfig())
    batch = make_batch(tokenizer, TEXTS, num_frames=4)
    draws = torch.rand(3 * 2, 16).argsort(dim=-1)
    mask, target = objective.run_teacher(batch, draws)
    assert target.shape == (1, 3, 1 + 2 * 4, 112)
    seen = batch.teacher_video.clone()
    seen[:, ::2] = 0.0  # the first of each pair is not used
    assert torch.equal(objective.run_teacher(batch._replace(teacher_video=seen), draws)[1], target)
    assert objective(batch)["alignment"].isfinite() and mask.shape == (3, 1 + 2 * 16)
    assert objective(make_batch(tokenizer, TEXTS, num_frames=1))["alignment"].isfinite()


def test_repetitions_are_left_out_and_stand_for_themselves(tokenizer):
    """The second frame of each clip changes in one patch of 16: 17 of 32 patches go through the encoder."""
    config = replace(UNMASKED, video_mask=MaskConfig("changed"))
    objective = Objective(
        VideoTextModel(replace(CONFIG, video=replace(CONFIG.video, student=None))), None, tokenizer, config
    )
    batch = make_batch(tokenizer, TEXTS)
    repeats = torch.tensor([[False] * 18 + [True] * 15] * 3)
    mask, target = objective.run_teacher(batch._replace(repeats=repeats))
    assert mask is repeats and target is None
    encoded = objective.encode_video(batch.video, mask)
    assert (encoded.video_tokens.shape[1], encoded.frame_embeddings.shape[1], encoded.student) == (32, 2, None)
    assert torch.equal(encoded.video_tokens[:, 17:], encoded.video_tokens[:, 1:16])  # all but the patch that changed
    assert not torch.equal(encoded.video_tokens[:, 16], encoded.video_tokens[:, 0])
    whole, left = objective(batch), objective(batch._replace(repeats=repeats))
    assert whole["contrastive"] != left["contrastive"] and left["matching"].isfinite()


def test_thresholds_are_drawn_evenly_by_their_logarithm():
    masking, rng = MaskConfig("changed", threshold=(0.01, 1.0), keep_all=0.4), np.random.default_rng(0)
    drawn = [masking.draw_threshold(rng) for _ in range(4000)]
    thresholds = [one for one in drawn if one is not None]
    assert 1 - len(thresholds) / 4000 == pytest.approx(0.4, abs=0.03)
    assert min(thresholds) >= 0.01 and max(thresholds) <= 1
    assert np.median(thresholds) == pytest.approx(0.1, rel=0.1)  # the middle of 0.01 and 1
    assert MaskConfig("changed", keep_all=1.0).draw_threshold(rng) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskConfig("atention", 0.5), "mask kind is 'atention'"),
        (lambda: MaskConfig("random", 1.0), "mask ratio is 1.0"),
        (lambda: MaskConfig("random", threshold=(0.1, 0.2)), "threshold and keep_all are for kind changed, not random"),
        (lambda: MaskConfig("changed", threshold=(0.2, 0.1)), r"is 0.2, 0.1, but must be in \(0, 1\]"),
        (lambda: MaskConfig("changed", threshold=(0.0, 0.1)), r"is 0, 0.1, but must be in \(0, 1\]"),
        (lambda: MaskConfig("changed", keep_all=1.5), "keep_all is 1.5"),
        (lambda: replace(UNMASKED, image_mask=MaskConfig("changed")), "changed is for clips"),
        (lambda: ObjectiveConfig(video_mask=MaskConfig("changed")), "alignment needs masks of another kind"),
        (lambda: LossWeights(contrastive=-1.0), "none may be below 0"),
        (lambda: LossWeights(0, 0, 0, 0), "nor all of them 0"),
    ],
)
def test_values_that_make_no_sense(make, message):
    with pytest.raises(ModelError, match=message):
        make()


def test_a_model_that_cannot_guess_words(tokenizer):
    with pytest.raises(ModelError, match="no head to guess masked words"):
        Objective(VideoTextModel(replace(CONFIG, masked_lm=False)), None, tokenizer, UNMASKED)


def test_a_tokeniser_of_another_model(tokenizer):
    text = replace(CONFIG.text, vocab_size=100)
    with pytest.raises(ModelError, match="has 30522 entries, but the model was made for 100"):
        Objective(VideoTextModel(replace(CONFIG, text=text)), None, tokenizer, UNMASKED)


def test_a_batch_without_the_teachers_view(objective, tokenizer):
    with pytest.raises(ModelError, match="must hold teacher_video"):
        objective(make_batch(tokenizer, TEXTS)._replace(teacher_video=None))
