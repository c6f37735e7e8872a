"""Embed once, search many: from video files to an index, and from a sentence to moments."""
