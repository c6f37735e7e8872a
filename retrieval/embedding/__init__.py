"""From decoded segments to vectors.

`Pipeline` takes what the decoding processes send, and embeds it with some encoders: frame by frame where the encoder
can (see `vmr.models.encoder.FrameEncoder`), else window by window. `token_files` keeps the tokens
that some encoders give as well. May import `data.decoding` and `models.encoder`.
"""
