"""The synthetic benchmark: scenes of moving shapes, their split, their pictures, and the same as files.

May be imported from: `world` (scenes), `split`, `drawing` (pixels) and `files`.
Imports `decoding` alone of the other rooms of `vmr.data`.
"""
