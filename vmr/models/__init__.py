"""Encoders, which turn videos and texts into vectors of one space, and everything needed to load and train them.

`encoder` is the interface that the rest of vmr knows, `catalogue` finds a model by name or path. Imports `vmr.ops`, and
nothing that reads videos. Each file or package here imports only from the lines below its own:

    catalogue
    saved_model
    families
    upstream                        teachers    masks
    video_text
    text        videomamba          open_clip_weights
    encoder, weights, hub, checkpoint_file, pip_weights
"""
