"""Which files below a folder are videos: by name, by the first bytes, and else by asking FFmpeg in a worker process.

May be imported from: `find` (the search), `contents` (what names and first bytes tell) and `probe`.
Imports `decoding`.
"""
