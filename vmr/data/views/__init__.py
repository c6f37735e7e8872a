"""The views of a video that a classifier is tested with: which frames, which size, which crops; decoded only once.

May import decoding; imports no torch.
"""
