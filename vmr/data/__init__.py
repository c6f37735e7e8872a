"""Decoding, sampling, annotations and the synthetic benchmark."""
