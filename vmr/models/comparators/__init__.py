"""Networks that VideoMamba is compared with at equal size: joint, divided and factorised attention, and its variants.

Each takes a video (B, T, 3, H, W) and gives logits (B, num_classes). May import `vmr.models.videomamba`.
"""
