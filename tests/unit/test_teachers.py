"""Frozen teachers: a small CLIP tower of random weights against arithmetic by hand, and the real EfficientNet."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vmr.errors import ModelError
from vmr.models.pip_weights import load_efficientnet_lite0
from vmr.models.teachers import ClipTeacher, EfficientNetTeacher, Teacher, check_teacher, load_teacher
from vmr.models.videomamba.encoder import VideoMambaConfig
from vmr.models.videomamba.student import StudentConfig

open_clip = pytest.importorskip("open_clip")
timm = pytest.importorskip("timm")
transformer = open_clip.transformer

# B = 2 videos of T = 3 frames, 4 x 4 patches of 8 pixels, C = 64, 4 heads of 16, D = 24
HEADS = 4
HALF = (0.5, 0.5, 0.5)


def make_vit(**changes: object) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 3, "heads": HEADS, "mlp_ratio": 4.0}
    vit: nn.Module = transformer.VisionTransformer(
        **{**sizes, "output_dim": 24, "act_layer": transformer.QuickGELU, **changes}
    )
    for name, value in vit.named_parameters():  # biases start at zero, where leaving them out would go unseen
        if name.endswith("bias"):
            nn.init.normal_(value, std=0.2)
    return vit


def make_teacher(num_features: int = 1) -> ClipTeacher:
    return ClipTeacher(make_vit(), num_features=num_features, mean=HALF, std=HALF)


def make_video(size: int = 32) -> Tensor:
    return torch.randn(2, 3, 3, size, size, generator=torch.Generator().manual_seed(1))


def block_tensors(vit: nn.Module, video: Tensor) -> tuple[list[Tensor], Tensor]:
    """Run open_clip's own forward; the output of every block and the input of the last one, (B*T, 1 + N, C)."""
    outputs: list[Tensor] = []
    handles = [
        block.register_forward_hook(lambda _, __, out: outputs.append(out)) for block in vit.transformer.resblocks
    ]
    with torch.no_grad():
        vit.eval()(video.flatten(0, 1))
    for handle in handles:
        handle.remove()
    return outputs, outputs[-2]


def test_features_are_those_of_the_plain_tower() -> None:
    video = make_video()
    outputs, _ = block_tensors(make_vit(), video)
    features = make_teacher(num_features=2)(video).features
    assert features.shape == (2, 2, 1 + 3 * 16, 24)
    for feature, output in zip(features, outputs[1:], strict=True):  # the last two of three blocks
        projected = (output @ make_vit().proj).detach().unflatten(0, (2, 3))  # (B, T, 1 + N, D), without ln_post
        torch.testing.assert_close(feature[:, 0], projected[:, :, 0].mean(1), atol=1e-5, rtol=1e-5)
        for frame in range(3):
            patches = feature[:, 1 + 16 * frame : 1 + 16 * (frame + 1)]
            torch.testing.assert_close(patches, projected[:, frame, 1:], atol=1e-5, rtol=1e-5)


def test_attention_by_hand() -> None:
    video, vit = make_video(), make_vit()
    _, x = block_tensors(vit, video)
    block = vit.transformer.resblocks[-1]
    with torch.no_grad():
        normed = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + block.ln_1.eps).sqrt()
        normed = normed * block.ln_1.weight + block.ln_1.bias
        qkv = normed @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
        query, key, _ = (part.unflatten(-1, (HEADS, 16)).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
        scores = query[:, :, :1] @ key.transpose(-1, -2) / 16**0.5  # (B*T, heads, 1, 1 + N)
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    attention = make_teacher()(video).attention
    assert attention.shape == (6, 16)
    torch.testing.assert_close(attention, weights.mean(1)[:, 0, 1:], atol=1e-6, rtol=1e-4)
    assert (attention.sum(-1) < 0.999).all()  # what CLS gives to itself is left out, and the rest not scaled back


@pytest.mark.parametrize("make", [make_teacher, lambda: EfficientNetTeacher(2)], ids=["clip", "efficientnet"])
def test_a_teacher_is_frozen(make) -> None:
    model = nn.ModuleDict({"teacher": make(), "student": nn.Linear(2, 2)}).train()
    teacher = model["teacher"]
    assert model["student"].training and not any(module.training for module in teacher.modules())
    assert not any(value.requires_grad for value in teacher.parameters())
    video = torch.rand(1, 1, 3, 32, 32, requires_grad=True)
    assert not any(value.requires_grad for value in teacher(video))


def test_pixels_by_hand() -> None:
    """(255 / 255 - 0.5) / 0.5 = 1, (0 - 0.5) / 0.5 = -1; a frame of one colour keeps it in another size."""
    teacher = make_teacher()
    video = torch.zeros(2, 1, 3, 32, 32, dtype=torch.uint8)
    video[1] = 255
    assert teacher.normalize(video).unique().tolist() == [-1, 1]
    large = torch.full((2, 1, 3, 48, 48), 255, dtype=torch.uint8)
    resized = teacher.normalize(large)
    assert resized.shape == (2, 1, 3, 32, 32)
    torch.testing.assert_close(resized, torch.ones_like(resized))
    random = torch.randint(0, 256, (1, 2, 3, 48, 48), dtype=torch.uint8)
    expected = nn.functional.interpolate((random[0] / 255 - 0.5) / 0.5, (32, 32), mode="bicubic", align_corners=False)
    torch.testing.assert_close(teacher.normalize(random)[0], expected)


@pytest.mark.parametrize(
    ("visual", "line"),
    [
        (open_clip.modified_resnet.ModifiedResNet([1, 1, 1, 1], 24, 2, image_size=32, width=8), "ModifiedResNet, not"),
        (make_vit(attentional_pool=True), "another attention or pooling"),
        (make_vit(pool_type="avg"), "another attention or pooling"),
        (make_vit(image_size=(32, 64)), "not square"),
        (make_vit(layers=1), "num_features is 2; it has 1 blocks"),
    ],
    ids=["resnet", "attentional", "average", "oblong", "shallow"],
)
def test_other_towers_are_refused(visual: nn.Module, line: str) -> None:
    with pytest.raises(ModelError, match=line):
        ClipTeacher(visual, num_features=2, mean=HALF, std=HALF)


@pytest.fixture(scope="module")
def clip_name(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("open_clip")
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    (folder / "vmr-teacher.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    torch.save(open_clip.create_model("vmr-teacher").state_dict(), folder / "teacher.pt")
    return f"open_clip:vmr-teacher/{folder / 'teacher.pt'}"


def test_an_open_clip_teacher_by_name(clip_name: str) -> None:
    teacher = load_teacher(clip_name, 4, num_features=2)
    assert (teacher.dim, teacher.grid_size, teacher.image_size, teacher.num_features) == (24, 4, 32, 2)
    assert teacher.mean == open_clip.OPENAI_DATASET_MEAN and teacher.std == open_clip.OPENAI_DATASET_STD
    assert load_teacher(clip_name, 4, pixels="imagenet").mean == (0.485, 0.456, 0.406)
    stored = torch.load(Path(clip_name.partition("/")[2]))
    assert torch.equal(teacher.network.proj, stored["visual.proj"])
    with pytest.raises(ModelError, match=r"its grid is 4 x 4 patches at 32 px, the student's 14 x 14"):
        load_teacher(clip_name, 14)


def test_unknown_teachers_are_refused() -> None:
    with pytest.raises(ModelError, match="unknown teacher 'clip': use efficientnet or open_clip:MODEL/WEIGHTS"):
        load_teacher("clip", 14)
    with pytest.raises(ModelError, match="gives features of 1 layer, not 2"):
        load_teacher("efficientnet", 14, num_features=2)


@pytest.mark.parametrize("grid_size", [14, 4])
def test_efficientnet(grid_size: int) -> None:
    teacher = load_teacher("efficientnet", grid_size)
    patches = grid_size**2
    assert (teacher.dim, teacher.image_size, teacher.num_features) == (112, 16 * grid_size, 1)
    video = torch.randint(0, 256, (2, 2, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels = teacher.normalize(video)
    features, saliency = teacher(pixels)
    assert features.shape == (1, 2, 1 + 2 * patches, 112) and saliency.shape == (4, patches)
    torch.testing.assert_close(saliency.sum(-1), torch.ones(4))
    # CLS by hand: frames have as many patches, so the mean of their means is the mean of all
    torch.testing.assert_close(features[:, :, 0], features[:, :, 1:].mean(2), atol=1e-5, rtol=1e-5)
    patch_features = features[0, :, 1:].unflatten(1, (2, patches)).flatten(0, 1)  # (B*T, N, 112)
    distance = (patch_features - patch_features.mean(1, keepdim=True)).pow(2).sum(-1).sqrt()
    torch.testing.assert_close(saliency, distance / distance.sum(-1, keepdim=True), atol=1e-6, rtol=1e-4)
    again = load_teacher("efficientnet", grid_size)(pixels)
    assert torch.equal(again.features, features) and torch.equal(again.attention, saliency)


def test_efficientnet_features_are_those_of_timm() -> None:
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    stages = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(3,)).eval()
    report = stages.load_state_dict(load_efficientnet_lite0().state_dict(), strict=False)
    assert not report.missing_keys  # what is left over is the head
    with torch.no_grad():
        (expected,) = stages(images)  # (2, 112, 14, 14)
    features = EfficientNetTeacher()(images[:, None]).features[0, :, 1:]
    torch.testing.assert_close(features, expected.flatten(2).transpose(1, 2), atol=1e-4, rtol=1e-3)


def test_what_stands_out_is_salient() -> None:
    """Noise in the upper left quarter of a grey frame: its patches stand out more than those of the lower right."""
    teacher = EfficientNetTeacher(14)
    video = torch.full((1, 1, 3, 224, 224), 128, dtype=torch.uint8)
    noise = torch.randint(0, 256, (3, 112, 112), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    video[..., :112, :112] = noise
    saliency = teacher(teacher.normalize(video)).attention.view(14, 14)
    assert saliency[:7, :7].sum() > 1.5 * saliency[7:, 7:].sum()


@pytest.mark.parametrize("shape", [(1, 1, 3, 32, 40), (1, 1, 3, 64, 64), (1, 3, 32, 32)])
def test_a_wrong_video_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"expected video \(B, T, 3, 32, 32\)"):
        make_teacher()(torch.zeros(shape))
    with pytest.raises(ModelError, match=r"expected video uint8 \(B, T, 3, H, W\), got torch.float32"):
        make_teacher().normalize(torch.zeros(shape))


def student_config(**changes: object) -> VideoMambaConfig:
    student = StudentConfig(teacher_dim=24, num_taps=1)
    return VideoMambaConfig(
        **{"width": 32, "num_layers": 2, "image_size": 64, "num_frames": 4, "student": student} | changes
    )


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"student": None}, "no student outputs"),
        ({"image_size": 224}, "grid is 4 x 4 .* the student's 14 x 14"),
        ({"student": StudentConfig(teacher_dim=512)}, "teacher_dim is 512; this teacher has 24"),
        ({"student": StudentConfig(teacher_dim=24, num_taps=2)}, "num_taps is 2; this teacher has 1"),
    ],
)
def test_teacher_and_student_must_match(changes: dict[str, object], line: str) -> None:
    teacher: Teacher = make_teacher()
    check_teacher(teacher, student_config())
    with pytest.raises(ModelError, match=line):
        check_teacher(teacher, student_config(**changes))
