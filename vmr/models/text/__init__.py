"""BERT: the text encoder, the fusion layers that look at video tokens, the tokenizer, and published weights.

Imports no other room of `vmr.models`, only the files `checkpoint_file`, `encoder`, `hub`, `pip_weights` and
`weights` beside it.
"""
