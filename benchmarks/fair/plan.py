"""What the comparison trains, in which order, and where its files are.

The folder of a comparison:

    plan.json           its settings, recipes and code; a command with others is refused
    probes/NAME.json    seconds of a training step and the steps that fit into the time, of config fair_NAME.yaml
    runs/NAME-SEED/     the folder of vmr-train
    scores/NAME-SEED.json
    costs/NAME.json
    processes.jsonl     seconds of each process that was started
    logs/               what the processes printed
    results.json, results.md, frames.svg, cpu.svg
"""

from dataclasses import dataclass
from pathlib import Path

from vmr.models.saved_folder import CONFIG_FILE

KINDS = ("videomamba", "videomamba_causal", "videomamba_frames", "vim", "vit", "timesformer", "vivit")
ABLATIONS = ("wide", "wide_distilled", "masked", "masked_tuned")
NEEDED = {
    "wide_distilled": ("videomamba", "--classification.distillation.teacher"),
    "masked_tuned": ("masked", "--model.video_init"),
}
"""A config that starts from the model of another: that one, and the option that names the model."""

SAME_NETWORK = {"wide_distilled": "wide", "masked_tuned": "videomamba"}
"""A config that trains the network of another in another way; one of them is measured."""

HALF_TIME = ("masked", "masked_tuned")  # which together train as long as the others
NOT_SCORED = ("masked",)
FRAMES = (4, 8, 16, 32)
CONFIGS = Path(__file__).parents[2] / "configs" / "train"


@dataclass(frozen=True)
class Settings:
    """The settings of a comparison.

    Attributes:
        minutes: of training for each network and seed.
        seeds: how many runs there are of each network.
        names: configs, each without `fair_` and its ending.
        steps: steps of every run, whatever its time; None to fill the time.
        limit: clips of the test that are scored; None for all.
    """

    minutes: float
    seeds: int
    names: tuple[str, ...]
    steps: int | None = None
    limit: int | None = None

    def seconds_of(self, name: str) -> float:
        """Return the seconds that a run of a config trains."""
        return 60 * self.minutes * (0.5 if name in HALF_TIME else 1.0)


@dataclass(frozen=True)
class Folder:
    """The files of a comparison.

    Attributes:
        out: the folder.
    """

    out: Path

    @property
    def plan(self) -> Path:
        """The settings."""
        return self.out / "plan.json"

    @property
    def results(self) -> Path:
        """All numbers."""
        return self.out / "results.json"

    @property
    def processes(self) -> Path:
        """A line for each process that was started."""
        return self.out / "processes.jsonl"

    def probe(self, name: str) -> Path:
        """How long a step of a config takes."""
        return self.out / "probes" / f"{name}.json"

    def run(self, name: str, seed: int) -> Path:
        """The folder of a training run."""
        return self.out / "runs" / f"{name}-{seed}"

    def model(self, name: str, seed: int) -> Path:
        """The folder of the model that a run trains."""
        return self.run(name, seed) / "model"

    def trained(self, name: str, seed: int) -> Path:
        """The file of a model that is written last: it is there when the run is over."""
        return self.model(name, seed) / CONFIG_FILE

    def scores(self, name: str, seed: int) -> Path:
        """The scores of a trained model."""
        return self.out / "scores" / f"{name}-{seed}.json"

    def costs(self, name: str) -> Path:
        """What a clip costs the network of a config."""
        return self.out / "costs" / f"{SAME_NETWORK.get(name, name)}.json"

    def log(self, job: str) -> Path:
        """What the process of a job printed."""
        return self.out / "logs" / f"{job}.txt"


def config_of(name: str) -> Path:
    """Return the training config of a name."""
    return CONFIGS / f"fair_{name}.yaml"


def scored(settings: Settings) -> list[str]:
    """Return the names whose models are scored."""
    return [name for name in settings.names if name not in NOT_SCORED]
