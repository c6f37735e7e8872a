"""The encoders behind `vmr.load_model`: one file a family.

This is the only room that knows all kinds of models. It may import every other room of `vmr.models`.
"""
