"""The transformer baseline of the paper."""


class Transformers:
    """The transformer baseline of the paper."""
