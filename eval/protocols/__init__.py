"""Protocols: the rules of each published evaluation, one small YAML file for each, and loading a data set by its rules.

May be imported from: `load` (a data set by name), `catalogue` (protocols by name or file), `check` (which files of a
data set are in a folder) and `protocol` (the dataclasses).

To add a protocol, write a YAML file; its name without the suffix is the name of the protocol. Its keys are the
attributes of `vmr.eval.protocols.protocol.Protocol` apart from `name`, and those of `Source` and `TrainSplit` in lists.
A whole example:

    title: My clips
    version: 1                # raise it when a rule below changes: scores of different versions cannot be compared
    note: The 500 clips that we agreed on, one caption each.
    source: our wiki
    where: "videos and clips_test.json: on the file server"
    max_text_tokens: 32       # how many tokens of a caption are read; the encoder's own limit if left out
    sources:                  # files with the captions, the preferred one first, in any folder of the data set
    - {file: clips_test.json, kind: json, num_videos: 500, num_texts: 500}

A file in this folder becomes a protocol that everybody has: `vmr-data list` lists it, and a row in the table of
tests/unit/test_protocols.py must state its counts. A file anywhere else is used by its path: `load_dataset("mine.yaml",
data_dir="clips")`, or `vmr-eval --dataset mine.yaml --data-dir clips`. `vmr-data check mine.yaml --data-dir clips
--report found.json` says which files were found, and writes the hashes of their content; put them into the protocol as
`videos_sha256` and `texts_sha256`.
"""
