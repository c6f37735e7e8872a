"""Pool the tokens of a clip into one or a few vectors.

Shapes: B batch, N patch tokens in frame order, T time steps, C width.
"""

from typing import Literal

import torch
from torch import Tensor

PoolType = Literal["cls", "avg", "cls+avg", "cls_cat_avg"]


def pool_tokens(cls_token: Tensor, video_tokens: Tensor, pool: PoolType, num_steps: int | None) -> Tensor:
    """Pool over the whole clip, or over each time step where `num_steps` is given.

    Args:
        cls_token: (B, 1, C).
        video_tokens: (B, N, C), the patches without CLS, the same number in each time step.
        pool: `cls` takes CLS alone, `avg` the mean of the patches, `cls+avg` their sum. `cls_cat_avg` gives both, one
            after the other; with `num_steps` it gives their sum, as upstream does.
        num_steps: T to keep time, None to pool it away.

    Returns:
        (B, 1, C); with `num_steps` (B, T, C), except for `cls`; (B, 2, C) for `cls_cat_avg` without `num_steps`.
    """
    if pool == "cls":
        return cls_token
    batch, _, width = video_tokens.shape
    mean = video_tokens.reshape(batch, num_steps or 1, -1, width).mean(dim=2)  # (B, T or 1, C)
    if pool == "avg":
        return mean
    if pool == "cls_cat_avg" and num_steps is None:
        return torch.cat([cls_token, mean], dim=1)  # (B, 2, C)
    return cls_token + mean
