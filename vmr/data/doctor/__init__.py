"""The data set doctor: what is wrong with a training set, by name, before a training is started.

May be imported from: `captions` (sets with captions), `labels` (sets with labels), `findings` (what they return).
Imports `annotations`, `labels`, `decoding`, and `training`, as whose clips it decodes every file.
"""
