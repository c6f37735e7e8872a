"""What a classifier predicts, and which frames it sees. Imported by data, models, training and evaluation alike."""

from typing import Literal, TypeAlias

Target: TypeAlias = Literal["single", "multi", "regression"]
"""single: one of the classes. multi: each class is there or not. regression: one number."""

Label: TypeAlias = int | tuple[float, ...]
"""Of one clip: the number of its class (single), 0 or 1 for each class (multi), or one number (regression)."""

FrameRule: TypeAlias = Literal["sparse", "sthsth", "sthsth_frames", "dense"]
"""Which frames of a video a view takes; see `vmr.data.views.frame_rules`."""
