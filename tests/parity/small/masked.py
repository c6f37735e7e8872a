"""Masks, and masked pre-training with a CLIP teacher."""


class Masked:
    """Masks, and masked pre-training with a CLIP teacher."""
