"""BERT: the text encoder, the fusion layers that attend to video tokens, the tokenizer, and published weights.

Imports no other package of `vmr.models`, only the files `checkpoint_file`, `encoder`, `hub`, `pip_weights` and
`weights` beside it.
"""
