"""Checkpoints of the original VideoMamba: matching every key, and the released models by name.

Imports the packages `videomamba` and `text`, and the files `checkpoint_file`, `hub`, `video_text` and `weights`.
"""
