"""The run itself in a training config: folder, device, precision, checkpoints, logs, validation."""

from dataclasses import dataclass
from typing import Literal, get_args

from vmr.train.source_config import require

Precision = Literal["fp32", "bf16", "fp16"]
Parallel = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class RunConfig:
    """Folder, device, precision, checkpoints and logs of a run.

    Attributes:
        out: folder of checkpoints, logs and the finished model.
        seed: seed of everything random.
        device: cpu, cuda, or auto (cuda if there is a GPU, else cpu).
        precision: dtype of matrix products: fp32, bf16 or fp16; weights, states and scans are float32 in any case.
        accumulate: batches whose gradients are averaged for one step.
        log_every: steps from one line of the log to the next.
        checkpoint_every: steps from one checkpoint to the next.
        checkpoint_minutes: also write a checkpoint when this many minutes have passed; null for none.
        keep: how many of the newest checkpoints are kept; the best is kept as well.
        validate_every: steps from one validation to the next; null for none.
        ema: decay of a moving average of the weights, which is then validated and saved; null for no average.
        compile: run the encoders through torch.compile.
        cuda_graphs: run the layers of the video encoder as CUDA graphs. For one GPU, if launching the layers' kernels
            takes longer than computing them.
        parallel: under torchrun, ddp (each process has all weights) or fsdp (each has a part).
        skip_bad_steps: how many steps may be skipped because a loss or gradient is not finite; one more stops the run.
        wandb: project on Weights & Biases; null for none.
        resume: continue the run found in `out`; false refuses a folder that holds one.
        stop_after_steps: stop after this step of the run; the run can be resumed later. Null for no limit.
        max_minutes: stop after this many minutes; the run can be resumed later. Null for no limit.
    """

    out: str = "runs/train"
    seed: int = 0
    device: str = "auto"
    precision: Precision = "fp32"
    accumulate: int = 1
    log_every: int = 10
    checkpoint_every: int = 1000
    checkpoint_minutes: float | None = None
    keep: int = 2
    validate_every: int | None = None
    ema: float | None = None
    compile: bool = False
    cuda_graphs: bool = False
    parallel: Parallel = "ddp"
    skip_bad_steps: int = 0
    wandb: str | None = None
    resume: bool = True
    stop_after_steps: int | None = None
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        for name in ("accumulate", "log_every", "checkpoint_every", "keep", "validate_every", "stop_after_steps"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"run.{name} is {value}, but must be at least 1")
        for name in ("checkpoint_minutes", "max_minutes"):
            value = getattr(self, name)
            require(value is None or value > 0, f"run.{name} is {value}, but must be above 0")
        require(min(self.seed, self.skip_bad_steps) >= 0, "run.seed and run.skip_bad_steps must be at least 0")
        require(self.ema is None or 0 < self.ema < 1, f"run.ema is {self.ema}, but must be between 0 and 1")
        require(
            not (self.compile and self.cuda_graphs), "run.compile and run.cuda_graphs exclude each other: choose one"
        )
        require(self.precision != "fp16" or self.parallel == "ddp", "run.precision: fsdp takes bf16 or fp32, not fp16")
        for name, choices in {"precision": Precision, "parallel": Parallel}.items():
            value = getattr(self, name)
            require(value in get_args(choices), f"run.{name} is {value!r}; use one of {', '.join(get_args(choices))}")


@dataclass(frozen=True)
class ValidationConfig:
    """Evaluation during training by `vmr-train`, as by `vmr-eval`; from Python, `train` takes a function instead.

    Attributes:
        dataset: a file of annotations or labels, or the name of a data set; see `vmr-eval`.
        video_dir: the folder of the videos of such a file.
        data_dir: the folder of a named data set.
        rerank: how many candidates of each query are scored again by matching; their metrics are named vtm/...
        views: segments x crops of each video, for classification.
        metric: the metric that chooses the best checkpoint; higher is better. null for that of the task:
            text_to_video/R@1, or top-1, mAP (several classes) or -MSE (a number).
    """

    dataset: str
    video_dir: str | None = None
    data_dir: str | None = None
    rerank: int = 0
    views: str = "1x1"
    metric: str | None = None
