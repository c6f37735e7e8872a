"""Protocols of classification as data: which list, which views of a video, how its score is made, what was published.

Each protocol is a YAML file of this folder, named after it; the keys are those of `protocol.ClassificationProtocol`. A
file may hold several that share its keys: `variants` maps the end of each one's name to the keys that differ, so that
`relation` in `lvu.yaml` is `lvu-relation`. `catalogue.find_protocol` finds a protocol by name. May import data; imports
no torch. A file of your own needs these keys:

    title: My benchmark
    version: 1
    note: What it is.
    source: Who says so.
    num_classes: 12
    num_segments: 4
    num_crops: 3
"""
