import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vmr.errors import ModelError
from vmr.models.videomamba.backbone import BackboneConfig
from vmr.models.videomamba.classifier import ClassifierConfig, VideoMambaClassifier
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig
from vmr.models.videomamba.interpolation import inflate_patch_filter, interpolate_positions, interpolate_time
from vmr.models.videomamba.mixer import drop_path, stochastic_depth_rates
from vmr.models.videomamba.pooling import PoolType, pool_tokens
from vmr.models.videomamba.student import StudentConfig, sinusoid

# B = 2 videos of T = 4 frames, 2 x 2 patches each: N = 16 patch tokens of width C = 32
SMALL = VideoMambaConfig(width=32, num_layers=3, image_size=32, num_frames=4)


def make_model(config: VideoMambaConfig = SMALL, seed: int = 0) -> VideoMamba:
    torch.manual_seed(seed)
    model = VideoMamba(config)
    with torch.no_grad():  # zero in a fresh model, where a missing temporal position would go unseen
        model.temporal_pos_embedding.normal_()
        model.cls_token.normal_()
    return model.eval()


def make_video(frames: int = 4, size: int = 32, batch: int = 2) -> Tensor:
    return torch.randn(batch, frames, 3, size, size, generator=torch.Generator().manual_seed(1))


def make_mask(kept_per_frame: int = 2, frames: int = 4, patches: int = 4) -> Tensor:
    scores = torch.rand(2, frames, patches, generator=torch.Generator().manual_seed(2))
    dropped = scores.argsort(-1) >= kept_per_frame
    return torch.cat([torch.zeros(2, 1, dtype=torch.bool), dropped.flatten(1)], dim=1)


@torch.no_grad()
@pytest.mark.parametrize(
    ("pool", "whole", "per_step"), [("cls", 1, 1), ("avg", 1, 4), ("cls+avg", 1, 4), ("cls_cat_avg", 2, 4)]
)
def test_shapes(pool: PoolType, whole: int, per_step: int) -> None:
    model = make_model(replace(SMALL, pool=pool))
    tokens, pooled, student = model(make_video())
    assert tokens.shape == (2, 16, 32)
    assert pooled.shape == (2, whole, 32)
    assert model(make_video(), keep_temporal=True).pooled.shape == (2, per_step, 32)
    assert student is None


def test_pooling_by_hand() -> None:
    cls_token = torch.tensor([[[100.0]]])
    tokens = torch.tensor([1.0, 3.0, 5.0, 11.0]).view(1, 4, 1)  # two time steps of two patches: means 2 and 8
    assert pool_tokens(cls_token, tokens, "cls", 2).tolist() == [[[100]]]
    assert pool_tokens(cls_token, tokens, "avg", None).tolist() == [[[5]]]
    assert pool_tokens(cls_token, tokens, "avg", 2).tolist() == [[[2], [8]]]
    assert pool_tokens(cls_token, tokens, "cls+avg", None).tolist() == [[[105]]]
    assert pool_tokens(cls_token, tokens, "cls_cat_avg", None).tolist() == [[[100], [5]]]
    assert pool_tokens(cls_token, tokens, "cls_cat_avg", 2).tolist() == [[[102], [108]]]


@torch.no_grad()
def test_a_mask_selects_tokens_and_nothing_else() -> None:
    model, video, mask = make_model(), make_video(), make_mask()
    all_tokens = model.embed_tokens(video)  # (B, 1 + N, C)
    kept = torch.stack([tokens[~dropped] for tokens, dropped in zip(all_tokens, mask, strict=True)])
    assert kept.shape == (2, 1 + 4 * 2, 32)
    assert torch.equal(model.embed_tokens(video, mask), kept)
    unmasked = torch.zeros_like(mask)
    assert torch.allclose(model(video, unmasked).video_tokens, model(video).video_tokens, atol=1e-6)


@torch.no_grad()
def test_dropped_pixels_have_no_influence() -> None:
    model, video, mask = make_model(), make_video(), make_mask()
    dropped = mask[:, 1:].view(2, 4, 1, 2, 2).repeat_interleave(16, 3).repeat_interleave(16, 4)
    other = torch.where(dropped, torch.tensor(9.0), video)
    assert torch.equal(model(video, mask).video_tokens, model(other, mask).video_tokens)


@torch.no_grad()
def test_keep_temporal_with_a_mask_needs_equal_steps() -> None:
    model, video, mask = make_model(), make_video(), make_mask()
    assert model(video, mask, keep_temporal=True).pooled.shape == (2, 4, 32)
    uneven = torch.zeros(2, 17, dtype=torch.bool)
    uneven[:, 1:3] = True
    with pytest.raises(ModelError, match="every time step"):
        model(video, uneven, keep_temporal=True)


@pytest.mark.parametrize(
    ("column", "value", "message"), [(0, True, "CLS"), (slice(1, 3), False, "the same number"), (None, None, "bool")]
)
def test_bad_masks_are_refused(column: int | slice | None, value: bool | None, message: str) -> None:
    mask = make_mask()
    if column is None:
        mask = mask.float()
    else:
        mask[0, column] = value
        mask[1, 1:3] = True
    with pytest.raises(ModelError, match=message):
        make_model()(make_video(), mask)


@torch.no_grad()
def test_an_image_gets_no_temporal_position() -> None:
    model, image = make_model(), make_video(frames=1)
    tokens, pooled, _ = model(image, keep_temporal=True)
    assert tokens.shape == (2, 4, 32)
    assert pooled.shape == (2, 1, 32)
    model.temporal_pos_embedding.zero_()
    assert torch.equal(model(image).video_tokens, tokens)


@torch.no_grad()
def test_tubelets_halve_the_time_steps() -> None:
    model = make_model(replace(SMALL, tubelet_size=2))
    assert model(make_video(), keep_temporal=True).pooled.shape == (2, 2, 32)
    assert model(make_video(frames=1)).video_tokens.shape == (2, 4, 32)


@torch.no_grad()
def test_patches_are_those_of_a_convolution() -> None:
    model, video = make_model(replace(SMALL, tubelet_size=2)), make_video()
    expected = model.patch_embed.proj(video.transpose(1, 2)).flatten(3).permute(0, 2, 3, 1)  # (B, S, G*G, C)
    assert torch.allclose(model.patch_embed(video), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 3, 32, 32), (2, 4, 3, 48, 48), (2, 3, 4, 32, 32), (4, 3, 32, 32)])
def test_a_video_of_another_size_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="resized"):
        make_model()(torch.zeros(shape))


@torch.no_grad()
def test_resized_model_takes_other_videos_and_leaves_the_first_alone() -> None:
    model = make_model(replace(SMALL, student=StudentConfig(teacher_dim=8)))
    larger = model.resized(image_size=48, num_frames=6)
    assert larger(make_video(6, 48)).video_tokens.shape == (2, 54, 32)
    assert larger(make_video(6, 48), torch.zeros(2, 55, dtype=torch.bool)).student.shape == (1, 2, 55, 8)
    assert model(make_video()).video_tokens.shape == (2, 16, 32)
    same = model.resized()
    assert torch.equal(same(make_video()).video_tokens, model(make_video()).video_tokens)


def test_interpolation() -> None:
    grid = torch.full((1, 64, 1), 3.0)
    resampled = interpolate_positions(torch.cat([torch.full((1, 1, 1), 7.0), grid], dim=1), 16)
    assert resampled.shape == (1, 257, 1)
    assert resampled[0, 0, 0] == 7.0  # CLS is not part of the grid
    assert torch.allclose(resampled[:, 1:], torch.tensor(3.0))
    time = interpolate_time(torch.tensor([0.0, 2.0]).view(1, 2, 1), 4)
    assert time.flatten().tolist() == [0.0, 0.5, 1.5, 2.0]  # corners not aligned: the ends are clamped
    with pytest.raises(ModelError, match="square"):
        interpolate_positions(torch.zeros(1, 1 + 15, 4), 4)


def test_an_inflated_filter_answers_as_the_image_filter_did() -> None:
    image_filter = torch.randn(5, 3, 16, 16)
    inflated = inflate_patch_filter(image_filter, 3)
    assert inflated.shape == (5, 3, 3, 16, 16)
    assert torch.equal(inflated.sum(2), image_filter)
    assert torch.equal(inflated[:, :, 1], image_filter)


@torch.no_grad()
@pytest.mark.parametrize(("taps", "interval", "layers"), [(1, 1, [2]), (3, 1, [0, 1, 2]), (2, 2, [0, 2])])
def test_student_taps(taps: int, interval: int, layers: list[int]) -> None:
    config = StudentConfig(teacher_dim=8, num_taps=taps, interval=interval)
    assert config.tapped_layers(3) == layers
    model = make_model(replace(SMALL, student=config))
    assert model(make_video()).student is None
    assert model(make_video(), make_mask()).student.shape == (taps, 2, 9, 8)


def test_student_with_and_without_gradients_are_the_same() -> None:
    model = make_model(replace(SMALL, student=StudentConfig(teacher_dim=8, num_taps=3)))
    trained = model(make_video(), make_mask())
    with torch.no_grad():
        plain = model(make_video(), make_mask())  # buffers reused, sums written in place
    for with_grad, without in zip(trained, plain, strict=True):
        assert torch.allclose(with_grad, without, atol=1e-5)


def test_sinusoid_by_hand() -> None:
    table = sinusoid(3, 4)
    expected = [math.sin(2), math.cos(2), math.sin(2 / 100), math.cos(2 / 100)]  # 10000 ** (2 / 4) = 100
    assert table[0].tolist() == [0, 1, 0, 1]
    assert table[2].tolist() == pytest.approx(expected)


def test_stochastic_depth_rates_rise_evenly() -> None:
    assert stochastic_depth_rates(0.3, 4) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    model = VideoMamba(replace(SMALL, num_layers=4, drop_path=0.3))
    # a block drops the output of the block before it: the first of nothing, the second of the first, at rate 0
    assert [block.drop_path_rate for block in model.blocks] == pytest.approx([0.0, 0.0, 0.1, 0.2])
    assert model.last_drop_path_rate == pytest.approx(0.3)


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    out = drop_path(torch.ones(4000, 2, 3), 0.25, training=True)
    per_sample = out.flatten(1)
    assert torch.equal(per_sample, per_sample[:, :1].expand(-1, 6))
    assert per_sample[:, 0].unique().tolist() == pytest.approx([0, 4 / 3])
    assert (per_sample[:, 0] == 0).float().mean() == pytest.approx(0.25, abs=0.02)
    assert drop_path(out, 0.25, training=False) is out


def test_initial_step_sizes() -> None:
    for dt_proj in (layer for b in make_model().blocks for layer in (b.mixer.dt_proj, b.mixer.dt_proj_b)):
        steps = torch.nn.functional.softplus(dt_proj.bias)
        assert steps.min() >= 0.001
        assert steps.max() <= 0.1
        assert steps.log().std() > 1.0  # log-uniform over two decades: 4.6 / sqrt(12) = 1.33
    upstream = make_model(replace(SMALL, dt_init="upstream")).blocks[0].mixer
    assert torch.equal(upstream.dt_proj.bias, torch.zeros(64))
    assert upstream.dt_proj.weight.abs().max() <= 0.1


@torch.no_grad()
def test_initial_weights_have_upstreams_spread() -> None:
    mixer = make_model(VideoMambaConfig(num_layers=24, image_size=32)).blocks[0].mixer
    assert mixer.in_proj.weight.std() == pytest.approx(0.02, rel=0.02)
    assert mixer.x_proj.weight.std() == pytest.approx(0.02, rel=0.05)
    assert mixer.out_proj.weight.abs().max() == pytest.approx(384**-0.5 / 24**0.5, rel=0.01)
    assert mixer.A_log[0].exp().tolist() == pytest.approx(list(range(1, 17)))


def test_gradient_checkpointing_changes_no_gradient() -> None:
    plain = make_model().train()
    checkpointed = make_model(replace(SMALL, checkpointed_layers=2)).train()
    for model in (plain, checkpointed):
        model(make_video()).pooled.square().sum().backward()
    for (name, expected), (_, got) in zip(plain.named_parameters(), checkpointed.named_parameters(), strict=True):
        assert expected.grad is not None and got.grad is not None, name
        assert torch.equal(expected.grad, got.grad), name


@torch.no_grad()
@pytest.mark.parametrize("how", ["autocast", "cast_products", "to"])
def test_bfloat16_is_close_to_float32(how: str) -> None:
    expected = make_model()(make_video()).pooled
    model = make_model()
    if how == "cast_products":
        model.cast_products(torch.bfloat16)
        assert model.blocks[0].mixer.A_log.dtype == torch.float32
    if how == "to":
        model.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        tokens, pooled, _ = model(make_video())
    assert tokens.dtype == torch.bfloat16
    assert (pooled.float() - expected).norm() <= 2e-2 * expected.norm()


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_weights_change_no_result(dtype: torch.dtype) -> None:
    model = make_model().cast_products(dtype)
    expected = model(make_video()).pooled
    model.pack_products()
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert (model(make_video()).pooled - expected).norm() <= tolerance * expected.norm()
    assert (model(make_video(frames=1)).pooled).isfinite().all()  # other numbers of rows than it was packed for


@torch.no_grad()
def test_packed_weights_that_have_changed_are_refused() -> None:
    model = make_model().pack_products()
    copied = model.resized(num_frames=2)
    model.load_state_dict({name: 2 * value for name, value in model.state_dict().items()})
    with pytest.raises(ModelError, match=r"call pack_products\(\) again"):
        model(make_video())
    model.pack_products()(make_video())
    model.cast_products(torch.bfloat16)
    with pytest.raises(ModelError, match=r"call pack_products\(\) again"):
        model(make_video())
    copied.blocks[0].mixer.in_proj.weight.mul_(2)  # a copy has its own weights, and they are not packed
    copied(make_video(frames=2))


def test_packed_weights_leave_training_alone() -> None:
    model = make_model().pack_products().train()
    model(make_video()).pooled.sum().backward()
    assert model.blocks[0].mixer.in_proj.weight.grad is not None


def test_bfloat16_training_step_gives_float32_gradients() -> None:
    model = make_model().train()
    with torch.autocast("cpu", torch.bfloat16):
        pooled = model(make_video()).pooled
    pooled.float().square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32 and parameter.grad.isfinite().all(), name


@torch.no_grad()
def test_classifier_reads_cls() -> None:
    torch.manual_seed(0)
    model = VideoMambaClassifier(
        ClassifierConfig(width=32, num_layers=2, image_size=32, num_frames=4, num_classes=7)
    ).eval()
    logits = model(make_video())
    assert logits.shape == (2, 7)
    assert model(make_video(frames=1)).shape == (2, 7)
    with torch.enable_grad():
        assert torch.allclose(model(make_video()), logits, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "width is 0"),
        ({"image_size": 225}, "no multiple of patch_size"),
        ({"num_frames": 3, "tubelet_size": 2}, "no multiple of tubelet_size"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"checkpointed_layers": 25}, "checkpointed_layers"),
        ({"dt_init": "zero"}, "dt_init"),
        ({"pool": "max"}, "pool is 'max'"),
        ({"student": StudentConfig(num_taps=13, interval=2)}, "do not fit 24 layers"),
    ],
)
def test_bad_configs_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        VideoMambaConfig(**change)  # type: ignore[arg-type]


def test_bad_sizes_and_heads_are_refused() -> None:
    with pytest.raises(ModelError, match="tiny, small, middle, base"):
        VideoMambaConfig.of_size("huge")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="num_classes"):
        ClassifierConfig(num_classes=0)
    with pytest.raises(ModelError, match="last_tap"):
        StudentConfig(last_tap="middle")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "parameters"), [("tiny", 7_056_768), ("small", 25_613_568), ("middle", 73_942_656), ("base", 97_231_872)]
)
def test_published_sizes_have_their_parameter_counts(size: str, parameters: int) -> None:
    config = replace(VideoMambaConfig.of_size(size), student=StudentConfig())  # type: ignore[arg-type]
    with torch.device("meta"):
        model = VideoMamba(config)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert BackboneConfig.__dataclass_params__.frozen  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [24, 40])
def test_reused_buffers_change_nothing_at_odd_widths(width: int) -> None:
    model = make_model(replace(SMALL, width=width))
    with_grad = model(make_video())  # autograd needs every result kept
    with torch.no_grad():
        without = model(make_video())
    assert torch.allclose(with_grad.video_tokens, without.video_tokens, atol=1e-5)
    assert torch.allclose(with_grad.pooled, without.pooled, atol=1e-5)


@torch.no_grad()
def test_results_of_one_call_survive_the_next() -> None:
    model = make_model()
    first = model(make_video())
    copy = first.video_tokens.clone()
    model(make_video() + 1)
    assert torch.equal(first.video_tokens, copy)


@torch.no_grad()
def test_compiles_into_one_graph() -> None:
    model = make_model()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(make_video()).pooled, model(make_video()).pooled, atol=1e-5)


def test_frames_apart_know_nothing_of_each_other():
    config = replace(SMALL, across_time=False)
    torch.manual_seed(0)
    model = VideoMamba(config).eval()
    video = torch.randn(2, config.num_frames, 3, config.image_size, config.image_size)
    order = torch.randperm(config.num_frames)
    with torch.no_grad():
        tokens, pooled, _ = model(video, keep_temporal=True)
        shuffled = model(video[:, order], keep_temporal=True)
        assert torch.allclose(shuffled.pooled, pooled[:, order], atol=1e-6)
        image = model(video[:, 2:3])
        assert torch.allclose(pooled[:, 2:3], image.pooled, atol=1e-6)
        patches = config.grid_size**2
        assert torch.allclose(tokens[:, 2 * patches : 3 * patches], image.video_tokens, atol=1e-6)
        assert torch.allclose(model(video).pooled, pooled.mean(1, keepdim=True), atol=1e-6)


def test_masked_frames_apart():
    config = replace(SMALL, across_time=False, student=StudentConfig(teacher_dim=8))
    model = VideoMamba(config)
    patches = config.grid_size**2
    mask = torch.zeros(2, 1 + config.num_frames * patches, dtype=torch.bool)
    mask[:, 1:].view(2, config.num_frames, patches)[:, :, 1::2] = True
    features = model(torch.randn(2, config.num_frames, 3, config.image_size, config.image_size), mask)
    kept = config.num_frames * patches // 2
    assert features.video_tokens.shape == (2, kept, config.width)
    assert features.student.shape == (1, 2, 1 + kept, 8)
    assert features.pooled.shape == (2, 1, config.width)


def test_frames_apart_have_one_vector_each():
    with pytest.raises(ModelError, match="across_time"):
        replace(SMALL, across_time=False, pool="cls_cat_avg")
