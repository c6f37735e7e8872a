"""Looking after an index: converting an old one, compacting, copying, moving its folders, metadata of its videos.

Nothing here embeds a video. May import vmr.retrieval and its packages storage, vectors and updating.
"""
