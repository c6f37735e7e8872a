"""Patches that repeat earlier ones: which are found, what stands for them, and a model that leaves them out."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models import CONFIG, make_encoder, make_video, tiny_model
from tests.video_matrix import Recipe, write_video
from vmr.data.decoding.video import VideoReader
from vmr.errors import ModelError, VmrError
from vmr.models.catalogue import load_model
from vmr.models.encoder import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from vmr.models.saved_model import load_saved, save_model
from vmr.models.video_text import VideoTextModel
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig
from vmr.models.videomamba.repeats import SkipConfig, as_mask, carry, find_repeats, keep_equally, uncarry
from vmr.train.config import ModelConfig, TrainConfig

SIZES = {"tubelet_size": 1, "patch_size": 16}


def still(num_frames: int = 4, size: int = 32) -> torch.Tensor:
    """One clip of a picture that stands still: uint8 (1, T, 3, size, size), in the middle of the range."""
    picture = np.random.default_rng(0).integers(60, 180, (3, size, size), dtype=np.uint8)
    return torch.from_numpy(picture).expand(1, num_frames, -1, -1, -1).clone()


def kept(video: torch.Tensor, threshold: float, **more) -> list[list[int]]:
    """The patches that each step keeps."""
    keep = find_repeats(video, threshold, **{**SIZES, **more}).keep[0]
    return [torch.nonzero(step).flatten().tolist() for step in keep]


# -- the rule --------------------------------------------------------------------------------------------------------


def test_a_still_clip_keeps_its_first_step():
    assert kept(still(), 0.0) == [[0, 1, 2, 3], [], [], []]


def test_patches_are_compared_with_what_was_kept_last():
    """Patch 3 becomes brighter by 4 of 255 in each frame: 0.0157, 0.0314, 0.0471 from the first."""
    video = still()
    for frame in range(4):
        video[:, frame, :, 16:, 16:] += 4 * frame
    found = find_repeats(video, 0.02, **SIZES)
    assert found.change[0, 1:, 3].tolist() == pytest.approx([4 / 255, 8 / 255, 4 / 255], abs=1e-6)
    assert kept(video, 0.02) == [[0, 1, 2, 3], [], [3], []]
    assert kept(video, 0.01) == [[0, 1, 2, 3], [3], [3], [3]]
    assert kept(video, 0.05) == [[0, 1, 2, 3], [], [], []]
    assert found.change[0, 0].tolist() == [math.inf] * 4


def test_of_a_tubelet_the_worst_frame_counts_and_the_last_is_compared():
    video = still(6)
    video[:, 2, :, :16, :16] += 51  # 0.2, in the first frame of the second tubelet only
    assert kept(video, 0.1, tubelet_size=2) == [[0, 1, 2, 3], [0], []]
    assert kept(video, 0.21, tubelet_size=2) == [[0, 1, 2, 3], [], []]
    video = still(6)
    video[:, 0, :, :16, :16] += 51  # in the first frame of all: the last frame of the tubelet is what later ones repeat
    assert kept(video, 0.1, tubelet_size=2) == [[0, 1, 2, 3], [], []]


def test_noise_is_no_change():
    """The mean of 16 pixels has a quarter of their deviation: at 0.04 about 0.011 from frame to frame."""
    rng = np.random.default_rng(1)
    video = still(8, 64).numpy() + rng.normal(0, 0.04 * 255, (1, 8, 3, 64, 64))
    noisy = torch.from_numpy(video.clip(0, 255).round().astype(np.uint8))
    assert find_repeats(noisy, 0.02, **SIZES).keep.float().mean().item() == 1 / 8
    shares = [(a.float() - b.float()).abs().mean().item() / 255 for a, b in zip(noisy[0], noisy[0, 1:], strict=False)]
    assert min(shares) > 0.04  # pixel by pixel every patch would have changed


def test_a_pan_changes_nearly_everything_and_a_fade_only_what_it_must():
    picture = np.random.default_rng(2).integers(0, 255, (3, 8, 20), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    pan = torch.from_numpy(np.stack([picture[:, :, 5 * frame :][:, :, :64] for frame in range(8)]))[None]
    assert find_repeats(pan, 0.02, **SIZES).keep[:, 1:].float().mean() > 0.9
    fade = torch.stack([still(1, 64)[0, 0].float() - 6 * frame for frame in range(8)])[None].round().to(torch.uint8)
    assert find_repeats(fade, 0.02, **SIZES).keep[:, 1:].float().mean() > 0.9
    assert find_repeats(fade, 0.02, **SIZES, ignore_fades=True).keep[:, 1:].float().mean() == 0


def test_the_flicker_of_h264_is_hardly_a_change(footage, tmp_path):
    """A picture of a real video that stands still, at CRF 38 with a key frame every 4: at least 1/16 is kept."""
    picture = VideoReader(str(footage / "bikes.mp4")).frames_at([0])[0].transpose(1, 2, 0)
    recipe = Recipe(num_frames=16, gop=4, options={"crf": "38", "preset": "fast"}, stored=lambda _: picture)
    video = VideoReader(str(write_video(tmp_path / "still.mp4", recipe)))
    clip = torch.from_numpy(video.frames_at(range(16), size=(224, 224)))[None]
    shares = [find_repeats(clip, threshold, **SIZES).keep.float().mean().item() for threshold in (0.01, 0.02, 0.05)]
    assert shares[0] < 0.2 and shares[1] < 0.12 and shares[2] == 1 / 16


def test_cells_divide_the_patch():
    video = still(2, 28)
    video[:, 1, :, :14, :14] += 51
    assert kept(video, 0.1, patch_size=14) == [[0, 1, 2, 3], [0]]
    assert kept(still(2, 14)[..., :7, :7], 0.1, patch_size=7) == [[0], []]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": still().float()}, "uint8 pixels, not torch.float32"),
        ({"threshold": -0.1}, r"is -0.1, but must be in \[0, 1\]"),
        ({"threshold": math.nan}, "is nan, but must be in"),
        ({"tubelet_size": 3}, "4 x 32 x 32 is no multiple of 3 x 16 x 16"),
        ({"patch_size": 12}, "no multiple of 1 x 12 x 12"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, message):
    with pytest.raises(ModelError, match=message):
        find_repeats(**{"video": still(), "threshold": 0.1, **SIZES, **change})


def test_clips_of_a_batch_keep_as_many():
    """One clip changes in one patch, the other in three of a step: two each, those that change most."""
    video = torch.cat([still(2), still(2)])
    video[0, 1, :, :16, :16] += 51
    for number, more in enumerate((51, 30, 10)):
        row, column = divmod(number, 2)
        video[1, 1, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] += more
    keep = keep_equally(find_repeats(video, 0.02, **SIZES))
    assert keep.sum(dim=(1, 2)).tolist() == [6, 6]
    assert keep[1, 1].tolist() == [True, True, False, False]
    assert bool(keep[:, 0].all()) and bool(keep[0, 1, 0])


# -- what stands for repetitions -------------------------------------------------------------------------------------


def test_each_place_has_its_last_kept_token():
    keep = torch.tensor([[[1, 1], [0, 1], [0, 0], [1, 0]]]).bool()  # S = 4 steps of N = 2 places
    tokens = torch.arange(4.0).reshape(
        1, 4, 1
    )  # 0 and 1 of the first step, 2 of place 1 in step 1, 3 of place 0 in step 3
    assert carry(tokens, as_mask(keep), 4).flatten().tolist() == [0, 1, 0, 2, 0, 2, 3, 2]
    with pytest.raises(ModelError, match="the mask drops some of the first step"):
        carry(tokens, as_mask(keep.flip(1)), 4)


def test_gradients_count_repetitions():
    """A token that stands for n places has n times the gradient, in float64 and through the numerical check."""
    keep = torch.tensor([[[1, 1], [0, 1], [0, 0], [1, 0]], [[1, 1], [1, 0], [1, 0], [0, 0]]]).bool()
    tokens = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    carry(tokens, as_mask(keep), 4).sum().backward()
    assert tokens.grad is not None and tokens.grad[0, :, 0].tolist() == [3, 1, 3, 1]
    assert torch.autograd.gradcheck(lambda given: carry(given, as_mask(keep), 4).square(), tokens)


def test_tokens_that_repeat_are_counted():
    """The clip of the test above: what stands for 3, 1, 3 and 1 of its places."""
    kept, counts = uncarry(torch.tensor([0.0, 1, 0, 2, 0, 2, 3, 2])[:, None], 4)
    assert (kept.flatten().tolist(), counts.tolist()) == ([0, 1, 2, 3], [3, 1, 3, 1])
    # what is equal elsewhere, or comes again after something else, is no repetition
    kept, counts = uncarry(torch.tensor([5.0, 5, 6, 5, 5, 6])[:, None], 3)
    assert (kept.flatten().tolist(), counts.tolist()) == ([5, 5, 6, 5, 6], [1, 2, 1, 1, 1])
    one_channel = torch.tensor([[1.0, 2], [1, 3]])
    assert torch.equal(uncarry(one_channel, 2).tokens, one_channel)


def test_it_undoes_carrying():
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        keep = torch.rand(1, 6, 5, generator=generator) < 0.4
        keep[:, 0] = True
        tokens = torch.randn(1, int(keep.sum()), 3, generator=generator)
        kept, counts = uncarry(carry(tokens, as_mask(keep), 6)[0], 6)
        assert torch.equal(kept, tokens[0]) and counts.sum() == 30


# -- models ----------------------------------------------------------------------------------------------------------

TINY = VideoMambaConfig(width=16, num_layers=2, image_size=32, patch_size=16, num_frames=4)


def test_without_repetitions_nothing_changes_to_the_bit():
    torch.manual_seed(0)
    model, video = VideoMamba(TINY).eval(), torch.rand(2, 4, 3, 32, 32)
    nothing = torch.zeros(2, 1 + 16, dtype=torch.bool)
    with torch.no_grad():
        one = model(video, keep_temporal=True)
        other = model(video, nothing, keep_temporal=True, carried=True)
    assert torch.equal(one.video_tokens, other.video_tokens) and torch.equal(one.pooled, other.pooled)


def test_tokens_and_pooling_see_all_places():
    torch.manual_seed(0)
    model, video = VideoMamba(TINY).eval(), torch.rand(1, 4, 3, 32, 32)
    keep = torch.tensor([[[1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]]).bool()
    with torch.no_grad():
        left = model(video, as_mask(keep)).video_tokens
        whole = model(video, as_mask(keep), keep_temporal=True, carried=True)
        apart = model(video, as_mask(keep), carried=True)
    assert (left.shape, whole.video_tokens.shape, whole.pooled.shape, apart.pooled.shape) == (
        (1, 6, 16), (1, 16, 16), (1, 4, 16), (1, 1, 16)
    )  # fmt: skip
    assert torch.equal(whole.video_tokens[:, 4:8], left[:, [0, 4, 2, 3]])
    assert torch.equal(whole.pooled[:, 1], whole.pooled[:, 2])  # a step without a change is the step before it
    assert not torch.equal(whole.pooled[:, 2], whole.pooled[:, 3])
    frames_apart = VideoMamba(replace(TINY, across_time=False))
    with pytest.raises(ModelError, match="leaves out no repetitions"):
        frames_apart(video, as_mask(keep), carried=True)


@pytest.fixture
def clips():
    """Clips of the tiny encoder in which different shares repeat."""
    video = make_video(3, 2)
    video[0, 1] = video[0, 0]
    video[1, 1, :, :16] = video[1, 0, :, :16]
    return video


def test_a_vector_does_not_depend_on_other_clips(clips):
    encoder = make_encoder(tiny_model(), skip=SkipConfig(0.02))
    together = encoder.video_features(clips)
    for number in range(3):
        alone = encoder.video_features(clips[number : number + 1])
        assert torch.equal(together.vectors[number], alone.vectors[0])
        assert torch.equal(together.tokens[number], alone.tokens[0])
    assert find_repeats(clips, 0.02, **SIZES).keep.flatten(1).float().mean(dim=1).tolist() == [0.5, 0.75, 1.0]
    full = make_encoder(tiny_model())
    assert together.tokens.shape == full.video_features(clips).tokens.shape
    assert torch.equal(together.vectors[2], full.encode_video(clips[2:])[0])  # nothing repeats there
    assert not torch.equal(together.vectors[0], full.encode_video(clips[:1])[0])
    assert encoder.fingerprint != full.fingerprint
    with pytest.raises(ModelError, match="tiny: leaves out no patches"):
        full.changed_patches(clips)
    assert len({make_encoder(tiny_model(), skip=SkipConfig(share)).fingerprint for share in (0.01, 0.02)}) == 2


def test_it_is_saved_with_the_model(clips, tmp_path):
    encoder = make_encoder(tiny_model(), skip=SkipConfig(0.05, ignore_fades=True))
    save_model(tmp_path, encoder.model, encoder.preprocess, encoder.tokenizer, skip=encoder.skip)
    loaded = load_saved(tmp_path)
    assert loaded.skip == SkipConfig(0.05, ignore_fades=True)
    assert loaded.with_skip(0.1).skip == SkipConfig(0.1, ignore_fades=True)
    assert torch.equal(loaded.encode_video(clips), make_encoder(tiny_model(), skip=loaded.skip).encode_video(clips))


def test_it_is_chosen_when_a_model_is_loaded(clips, tmp_path):
    encoder = make_encoder(tiny_model(), skip=SkipConfig(0.05))
    save_model(tmp_path, encoder.model, encoder.preprocess, encoder.tokenizer, skip=encoder.skip)
    assert load_model(tmp_path, "cpu").fingerprint == encoder.fingerprint
    assert load_model(tmp_path, "cpu", skip=0).fingerprint == make_encoder(tiny_model()).fingerprint
    other = load_model(tmp_path, "cpu", skip=0.1)
    assert other.skip == SkipConfig(0.1)
    assert other.fingerprint == make_encoder(tiny_model(), skip=SkipConfig(0.1)).fingerprint
    for name in ("offline", "videomamba-nano-actions"):
        with pytest.raises(ModelError, match=f"{name}: skip cannot be chosen for this model"):
            load_model(name, "cpu", skip=0.1)
    with pytest.raises(ModelError, match="is 2, but must be in"):
        load_model(tmp_path, "cpu", skip=2)
    apart = tiny_model(config=replace(CONFIG, video=replace(CONFIG.video, across_time=False)))
    for make in (lambda: make_encoder(apart).with_skip(0.1), lambda: make_encoder(apart, skip=SkipConfig(0.1))):
        with pytest.raises(ModelError, match="tiny: encodes each frame by itself"):
            make()


def test_the_name_of_a_model_may_choose_it(tmp_path):
    """An index names its models; `@skip=` in the name finds the same model again."""
    made = make_encoder(tiny_model(), skip=SkipConfig(0.05))
    save_model(tmp_path, made.model, made.preprocess, made.tokenizer, skip=made.skip)
    chosen = load_model(tmp_path, "cpu", skip=0.1)
    assert chosen.name == f"{tmp_path}@skip=0.1"
    again = load_model(chosen.name, "cpu")
    assert (again.name, again.fingerprint, again.skip) == (chosen.name, chosen.fingerprint, SkipConfig(0.1))
    long = load_model(tmp_path, "cpu", skip=0.0123456789)  # the name states all digits
    assert load_model(long.name, "cpu").fingerprint == long.fingerprint
    assert load_model(chosen.name, "cpu", skip=0).fingerprint == make_encoder(tiny_model()).fingerprint
    with pytest.raises(ModelError, match=r"after @skip= comes a number in \[0, 1\], not 'much'"):
        load_model(f"{tmp_path}@skip=much")
    with pytest.raises(ModelError, match="nano-actions: skip cannot be chosen"):
        load_model("videomamba-nano-actions@skip=0.1")


@pytest.mark.parametrize(("kind", "warned"), [("none", True), ("changed", False)])
def test_a_model_that_was_not_trained_so_is_warned_of(tmp_path, caplog, kind, warned):
    made = make_encoder(tiny_model())
    stages = [{"video_mask": None}, {"video_mask": {"kind": kind}}]
    training = {"config": {"stages": stages}}
    save_model(tmp_path, made.model, made.preprocess, made.tokenizer, training=training)
    load_model(tmp_path, "cpu", skip=0)
    assert not caplog.records
    load_model(tmp_path, "cpu", skip=0.02)
    assert [("was not trained to leave out what repeats" in text) for text in caplog.messages] == [True] * warned


def test_a_config_of_something_else_is_refused():
    for other, message in (
        ({"task": "masked"}, "model.skip is for video-text models, not for masked"),
        ({"model": ModelConfig(replace(TINY, across_time=False), skip=SkipConfig())}, "model.skip needs frames that"),
    ):
        with pytest.raises(VmrError, match=message):
            TrainConfig(**{"model": ModelConfig(TINY, skip=SkipConfig()), **other})


def test_a_picture_has_nothing_to_repeat():
    encoder, full = make_encoder(tiny_model(), skip=SkipConfig(0.02)), make_encoder(tiny_model())
    picture = make_video(2, 1)
    assert torch.equal(encoder.encode_video(picture), full.encode_video(picture))


# -- matching --------------------------------------------------------------------------------------------------------

TEXTS = ["a dog", "two dogs run over a lawn", ""]


@pytest.fixture
def remembered(monkeypatch) -> list[int]:
    """How many tokens of each video the fusion layers are given."""
    numbers, plain = [], VideoTextModel.project_video

    def project(model, video_tokens, counts=None):
        numbers.append(video_tokens.shape[1])
        return plain(model, video_tokens, counts)

    monkeypatch.setattr(VideoTextModel, "project_video", project)
    return numbers


def large_encoder(skip: SkipConfig | None):
    """An encoder of 8 steps of 16 places, 128 tokens."""
    sizes = replace(CONFIG.video, num_frames=8, image_size=64)
    preprocess = Preprocess(8, 64, "upstream", IMAGENET_MEAN, IMAGENET_STD)
    return make_encoder(tiny_model(config=replace(CONFIG, video=sizes)), preprocess, skip=skip)


def moving() -> torch.Tensor:
    """A clip in which 4 of 16 patches change in each step: 16 + 7 * 4 of 128 tokens differ."""
    video = still(8, 64)
    for frame in range(1, 8):
        video[:, frame:, :, :16] += 8
    return video


@torch.inference_mode()
def match_all(encoder, tokens: torch.Tensor) -> torch.Tensor:
    """Match each token that is given, (1, K, C), without looking for repetitions."""
    read = encoder.read_texts(TEXTS)
    return encoder.model.match(read.tokens, read.mask, encoder.model.project_video(tokens))[:, 1]


def test_matching_without_repetitions_is_matching_all(remembered):
    encoder = large_encoder(SkipConfig(0.0))
    for video, num_kept in ((still(8, 64), 16), (moving(), 44)):
        tokens = encoder.video_tokens(video)
        assert tokens.shape == (1, 128, 32)
        everything = match_all(encoder, tokens)
        remembered.clear()
        logits = encoder.match(tokens, TEXTS)[0]
        assert remembered == [num_kept]
        assert ((logits - everything).norm() <= 1e-5 * everything.norm()) and len(set(logits.tolist())) == 3
        wrong = match_all(encoder, uncarry(tokens[0], 8).tokens[None])
        # where all tokens count equally often there is nothing to tell
        assert num_kept == 16 or (wrong - everything).norm() > 1e-3 * everything.norm()


def test_a_model_that_leaves_out_nothing_matches_as_before_to_the_bit(remembered):
    tokens = large_encoder(SkipConfig(0.0)).video_tokens(moving())  # repeat, but this model does not look
    encoder = large_encoder(None)
    everything = match_all(encoder, tokens)
    assert torch.equal(encoder.match(tokens, TEXTS)[0], everything) and remembered == [128, 128]
    assert not encoder.matching_sizes.may_repeat and large_encoder(SkipConfig()).matching_sizes.may_repeat


def test_where_little_repeats_all_tokens_are_matched(remembered):
    encoder = large_encoder(SkipConfig(0.0))
    video = moving()
    video[:, 1:, :, 16:] = make_video(1, 7, 64)[..., 16:, :]  # 12 of 16 patches change as well: all 128
    video[:, 7, :, 16:] = video[:, 6, :, 16:]  # but in the last step, where 12 repeat
    encoder.match(encoder.video_tokens(video), TEXTS)
    encoder.match(encoder.video_tokens(still(1, 64)), TEXTS)  # a picture
    assert remembered == [128, 16]
