"""The paths of files that tests read."""

from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
CONFIGS = REPOSITORY / "configs"
CLIPS = REPOSITORY.parent / "shared" / "clips"
PARITY_SM = REPOSITORY.parent / "shared" / "parity_sm"
