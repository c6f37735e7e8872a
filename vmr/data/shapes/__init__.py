"""The synthetic benchmark: scenes of moving shapes, their split, their pictures, and their files.

May be imported from: `world` (scenes), `split`, `drawing` (pixels) and `files`.
Of the other packages of `vmr.data`, it imports only `decoding`.
"""
