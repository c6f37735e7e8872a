"""The synthetic benchmark: scenes of moving shapes, their split, their pictures, and the same as files.

Imports no other room of `vmr.data`.
"""
