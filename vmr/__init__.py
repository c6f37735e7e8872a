"""vmr: video-text retrieval. Search your own videos by a sentence, and score retrieval models exactly.

import vmr

index = vmr.build_index("videos/", "index/")
for hit in index.search("two people riding bicycles"):
    print(hit.score, hit.video, hit.start_s, hit.end_s)

The public names are listed in `__init__.pyi`, each once. They are imported when they are first used, so that `import
vmr` and every `--help` do not load torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
