"""From decoded segments to vectors.

`Pipeline` takes what the decoding processes send, and embeds it with some encoders: frame by frame where the encoder
can (see `vmr.models.encoder.FrameEncoder`), else window by window. May import `data.decoding` and `models.encoder`.
"""
