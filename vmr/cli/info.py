"""`vmr-info`: describe this installation on this machine, or a model."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jsonargparse.typing import ClosedUnitInterval

from vmr.cli.common import run
from vmr.cli.output import print_table
from vmr.errors import VmrError

if TYPE_CHECKING:
    from vmr.models.classification.family import VideoClassifier
    from vmr.models.encoder import Encoder
    from vmr.models.upstream.published_vision import PublishedVision
    from vmr.models.upstream.released import ReleasedModel
    from vmr.models.video_text import VideoTextModel
    from vmr.models.weights import LoadReport

_SHOWN_LABELS = 5


def info(
    model: str | None = None,
    video_dir: str | None = None,
    skip: ClosedUnitInterval | None = None,
    check_gpu: bool = False,
) -> None:
    """Describe this installation (kernels, known models), or a model.

    Args:
        model: name or path of a model to load and describe (of a published classifier that has not been downloaded yet,
            what is known without its file); default, this machine's backends and the models known
        video_dir: a folder of videos; say which share of their patches the model, a VideoMamba, keeps if it leaves out
            those that repeat, and what time that saves
        skip: with video_dir, leave out patches that differ from earlier ones of the clip by no more than this; default,
            0.02
        check_gpu: run the GPU kernels on this machine, compare them with their definitions and time them
    """
    if check_gpu:
        if model is not None or video_dir is not None:
            other = "--video-dir" if model is None else repr(model)
            raise VmrError(f"--check-gpu is about this machine, not about a model: leave out {other}")
        _check_gpu()
        return
    if video_dir is not None:
        from vmr.cli.kept_share import print_kept_share

        print_kept_share(model, video_dir, 0.02 if skip is None else skip)
        return
    if skip is not None:
        raise VmrError("--skip is for the videos of --video-dir: name a folder, or leave it out")
    if model is None:
        _print_machine()
        return
    from vmr.models.catalogue import load_model, shows_progress
    from vmr.models.hub import is_downloaded
    from vmr.models.upstream.published import RELEASED_MODELS
    from vmr.models.upstream.published_vision import PUBLISHED_VISION, REPOSITORY
    from vmr.progress import spinner

    if model in RELEASED_MODELS:
        from vmr.models.upstream.released import RELEASED

        _print_released(RELEASED[model])
    if model in PUBLISHED_VISION:
        _print_published(PUBLISHED_VISION[model])
        if not PUBLISHED_VISION[model].has_head:
            return
        if not is_downloaded(REPOSITORY, PUBLISHED_VISION[model].file):
            print("The file is not on this machine yet. Commands that classify download it when they need it.")
            return
    with spinner(not shows_progress(model), "loading the model"):
        loaded = load_model(model)  # an unknown name is reported before torch is imported
    from vmr.models.classification.family import VideoClassifier

    if isinstance(loaded, VideoClassifier):
        _print_classifier(loaded)
    else:
        _print_encoder(loaded)


def _print_machine() -> None:
    """Print which backends the selective scan has on this machine, why others are missing, and which models exist."""
    import torch

    from vmr.models.catalogue import KNOWN
    from vmr.models.runtime import runtime_version
    from vmr.models.upstream.published_vision import PUBLISHED_VISION, TEST_SETS
    from vmr.ops import available_backends
    from vmr.version import __version__

    versions = [("vmr", __version__), ("torch", f"{torch.__version__}, {torch.get_num_threads()} threads")]
    versions.append(("OpenVINO", runtime_version() or "not installed: torch runs the encoder offline, slower"))
    backends = [(f"backend {name}", state) for name, state in available_backends().items()]
    print_table("vmr on this machine", ("", ""), [*versions, *backends])
    print_table("models, by name or path", ("", ""), KNOWN.items())
    rows = [(one.name, TEST_SETS[one.data].title, one.clip, _score(one)) for one in PUBLISHED_VISION.values()]
    print_table("published classifiers and encoders of VideoMamba", ("", "data set", "clips", "top-1 in %"), rows)


def _check_gpu() -> None:
    """Print the error of every kernel and its limit, then the speed. Raises VmrError if a kernel is wrong."""
    from vmr.ops.gpu import support

    if reason := support.missing_reason():
        raise VmrError(f"the GPU kernels cannot run here: {reason}")
    from vmr.ops.gpu.check import check_kernels, time_scan
    from vmr.progress import spinner

    with spinner(True, "compiling and comparing the kernels"):
        checks = check_kernels()
    rows = [(c.name, f"{c.error:.1e}", f"{c.limit:.0e}", "ok" if c.holds else "WRONG") for c in checks]
    print_table(support.describe(), ("relative to float64", "error", "at most", ""), rows)
    if wrong := [check.name for check in checks if not check.holds]:
        raise VmrError(
            f"wrong on this GPU: {'; '.join(wrong)}. Set VMR_DISABLE_TRITON=1 to do without the kernels, and please "
            "report it with this output"
        )
    if not support.interpreted():
        times = time_scan()
        print(
            f"scan of VideoMamba-M, 8 frames, bfloat16: {times['triton']:.2f} ms, "
            f"{times['reference'] / times['triton']:.0f} times as fast as plain PyTorch"
        )


def _print_released(released: "ReleasedModel") -> None:
    """Print the facts about a published checkpoint that are known without its file."""
    rows = [("what", released.about), ("trained on", released.trained_on), ("file", released.url)]
    print_table(released.name, ("", ""), rows)
    scores = [
        (score.dataset, score.direction.replace("_", " "), *(f"{recall:.1f}" for recall in score.recalls))
        for score in released.scores
    ]
    print_table("published scores, in percent", ("data set", "direction", "R@1", "R@5", "R@10"), scores)
    print(f"source: {released.scores_source}")


def _score(published: "PublishedVision") -> str:
    return "no head" if published.score is None else f"{published.score[0]:.1f}"


def _print_published(published: "PublishedVision") -> None:
    """Print the facts about a published classifier or encoder that are known without its file."""
    from vmr.models.upstream.published_vision import SCORES_SOURCE

    rows = [("what", published.about), ("file", published.url), ("clips", published.clip)]
    if published.score is not None:
        top_1, top_5 = published.score
        segments, crops = published.views
        score = f"top-1 {top_1:.1f}" + ("" if top_5 is None else f", top-5 {top_5:.1f}")
        rows += [
            ("published score", f"{score} in percent, of {segments} segments x {crops} crops"),
            ("frames", published.frames),
        ]
        rows += [("source", SCORES_SOURCE)]
    rows += [("note", note) for note in published.notes]
    rows += [("defect", published.defect)] if published.defect is not None else []
    print_table(published.name, ("", ""), rows)


def _print_classifier(classifier: "VideoClassifier") -> None:
    """Describe a loaded classifier."""
    from vmr.models.classification.cost import cost_of
    from vmr.models.classification.family import config_of

    clip, labels = classifier.clip, classifier.labels
    sizes, cost = config_of(classifier.network), cost_of(classifier.network)
    shown = "; ".join([*labels[:_SHOWN_LABELS], *(["..."] if len(labels) > _SHOWN_LABELS else [])])
    rule = "by the rule of the data" if clip.frames is None else f"by {clip.frames!r}"
    rows = [
        ("what", classifier.about),
        ("clips", f"{clip.num_frames} x {clip.size} x {clip.size} pixels, frames taken {rule}"),
        ("predicts", f"{classifier.target}, {len(labels)} outputs: {shown}"),
        ("network", f"{sizes.kind}: {sizes.num_layers} layers of width {sizes.width}"),
        ("parameters", f"{cost.parameters:,}"),
        ("operations", f"{cost.operations.total / 1e9:.3g} G multiply-accumulates of a clip"),
        ("fingerprint", classifier.fingerprint),
    ]
    rows += _report_rows(classifier.report) if classifier.report is not None else []
    print_table(classifier.name, ("", ""), rows)


def _print_encoder(encoder: "Encoder") -> None:
    """Describe a loaded model."""
    from vmr.models.families.video_text import VideoTextEncoder

    preprocess = encoder.preprocess
    rows = [
        ("what", encoder.about),
        (
            "videos",
            f"{preprocess.num_frames} frames of {preprocess.size} x {preprocess.size} pixels, "
            f"resized by {preprocess.resize!r}",
        ),
        ("dimensions", str(encoder.embed_dim)),
        ("fingerprint", encoder.fingerprint),
    ]
    if isinstance(encoder, VideoTextEncoder):
        rows += [("captions", f"up to {encoder.max_text_tokens} tokens of {encoder.tokenizer.source!r}")]
        rows += _model_rows(encoder.model)
        rows += _report_rows(encoder.report) if encoder.report is not None else []
    print_table(encoder.name, ("", ""), rows)


def _model_rows(model: "VideoTextModel") -> list[tuple[str, str]]:
    from vmr.models.classification.cost import count_operations

    video, text = model.config.video, model.config.text
    num_fusion = text.num_layers - text.num_text_layers
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    total = sum(p.numel() for p in model.parameters())
    return [
        ("video encoder", f"{video.num_layers} layers of width {video.width}, {counts['video_encoder']:,} parameters"),
        (
            "text encoder",
            f"{text.num_text_layers} layers of width {text.width}, {counts['text_encoder']:,} parameters",
        ),
        ("fusion", f"{num_fusion} layers of width {text.width}, {counts['fusion']:,} parameters"),
        ("parameters", f"{total:,} in all"),
        (
            "operations",
            f"{count_operations(video).total / 1e9:.3g} G multiply-accumulates of the video encoder for a clip",
        ),
    ]


def _report_rows(report: "LoadReport") -> list[tuple[str, str]]:
    """Rows that say how many keys of the file were loaded, fitted, or ignored by which rule."""
    rules = Counter(report.ignored.values())
    return [
        ("weights from", report.source),
        ("loaded", f"{len(report.loaded)} weights unchanged"),
        *(("fitted", f"{key} {how}") for key, how in report.fitted.items()),
        *(("ignored", f"{count} of its keys: {rule}") for rule, count in rules.items()),
        *(("left fresh", key) for key in report.fresh),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    run("vmr-info", info, ["model"], "vmr-info videomamba-m-25m", argv)
