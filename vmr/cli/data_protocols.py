"""`vmr-data list` and `vmr-data check NAME`: list the evaluations, and check the files of a data set."""

from typing import TYPE_CHECKING

from vmr.cli.data_findings import write_report
from vmr.cli.output import print_table
from vmr.errors import AnnotationError, VmrError
from vmr.progress import printable

if TYPE_CHECKING:
    from vmr.eval.protocols.check import Inventory


def list_protocols() -> None:
    """List the evaluations by name: what they are, numbers of videos, texts and classes, version of their rules."""
    from vmr.eval.classification.protocols.catalogue import PROTOCOLS as WITH_CLASSES
    from vmr.eval.protocols.catalogue import PROTOCOLS, SHAPES_PROTOCOLS

    rows = [
        (one.name, one.title, _count(one.num_videos), _count(one.num_texts), f"v{one.version} {one.hash}")
        for one in (*PROTOCOLS.values(), *SHAPES_PROTOCOLS.values())
    ]
    print_table("retrieval", ("name", "what it is", "videos", "texts", "version and hash"), rows)
    print("next: vmr-data check NAME --data-dir DIR lists which files of a data set are in a folder")
    rows = [
        (one.name, one.title, _count(one.num_videos), _count(one.num_classes), f"v{one.version} {one.hash}")
        for one in WITH_CLASSES.values()
    ]
    print_table("vmr-eval --task classify", ("name", "what it is", "videos", "classes", "version and hash"), rows)


def check_protocol(name: str, data_dir: str, report: str | None = None) -> None:
    """List the files of a published data set that are in a folder, that are missing or differ, and where to get them.

    The exit status is 2 if an evaluation over this folder would not be the published one.

    Args:
        name: name of the protocol; `vmr-data list` lists the names
        data_dir: the folder of its videos and annotations, in any layout
        report: JSON file to write, with every missing video by name
    """
    from vmr.eval.classification.protocols.catalogue import PROTOCOLS as WITH_CLASSES
    from vmr.eval.protocols.catalogue import PROTOCOLS, SHAPES_PROTOCOLS, load_protocol
    from vmr.eval.protocols.check import check_data
    from vmr.files import require_writable

    if name in WITH_CLASSES and name not in PROTOCOLS:
        _check_labels(name, data_dir, report)
        return
    chosen = load_protocol(name)
    if name in SHAPES_PROTOCOLS:
        raise AnnotationError(f"data set '{name}' is {chosen.where}: there is nothing to check")
    if report is not None:
        require_writable(report)
    found = check_data(chosen, data_dir)
    for video in found.missing:
        print(printable(f"missing: {video}"))
    print_table(f"{chosen.name}: {chosen.title}", ("", ""), _rows(found))
    print(printable(chosen.note))
    write_report(report, found.as_dict())
    if found.problems:
        raise VmrError("; ".join(found.problems))
    if found.missing:
        raise VmrError(
            f"{data_dir}: {len(found.missing)} of {found.num_videos} {chosen.media}s of {chosen.title} are missing, "
            f"first: {found.missing[0]}; {chosen.where}"
        )


def _check_labels(name: str, data_dir: str, report: str | None) -> None:
    """Do the same for a data set with classes."""
    from vmr.eval.classification.load import load_labelled
    from vmr.files import require_writable

    if report is not None:
        require_writable(report)
    data = load_labelled(name, data_dir=data_dir)
    labels, protocol = data.labels, data.protocol
    missing = [file.id for file in labels.missing]
    for video in missing:
        print(printable(f"missing: {video}"))
    num_listed = len(labels.items) + len(missing)
    rows = [
        ("named in the list", f"{num_listed} {protocol.media}s ({_count(protocol.num_videos)} published)"),
        ("files present", f"{len(labels.items)} of {num_listed}"),
        ("classes", f"{data.num_classes} ({_count(protocol.num_classes)} published)"),
        *(("noticed", note) for note in labels.notes),
        ("rules", f"version {protocol.version}, hash {protocol.hash}"),
        ("to be had", protocol.where),
    ]
    print_table(f"{protocol.name}: {protocol.title}", ("", ""), rows)
    print(printable(protocol.note))
    found = {"protocol": name, "version": protocol.version, "hash": protocol.hash, "data_dir": data_dir}
    found |= {"num_videos": num_listed, "num_classes": data.num_classes, "missing": missing}
    write_report(report, found)
    if missing:
        raise VmrError(
            f"{data_dir}: {len(missing)} of {num_listed} {protocol.media}s are missing, first: "
            f"{missing[0]}; {protocol.where}"
        )


def _rows(found: "Inventory") -> list[tuple[str, str]]:
    protocol = found.protocol
    rows = [
        ("annotations", str(found.file or "not found")),
        *([("list of the split", str(found.only))] if found.only else []),
        ("captions", f"{found.num_texts} ({_count(protocol.num_texts)} published)"),
        ("named in them", f"{found.num_videos} {protocol.media}s ({_count(protocol.num_videos)} published)"),
        ("hash", _hash_says(found)),
        ("files present", f"{len(found.present)} of {found.num_videos}"),
        *((f"trained on, {name}", says) for name, says in found.train_splits),
        ("rules", f"version {protocol.version}, hash {protocol.hash}"),
        ("to be had", protocol.where),
    ]
    return rows if found.file else [row for row in rows if row[0] not in ("captions", "named in them", "hash")]


def _hash_says(found: "Inventory") -> str:
    if found.texts_sha256 is None:
        return "not taken: the file cannot be read"
    if found.expected_texts_sha256 is None:
        return f"{found.texts_sha256[:16]} (that of the official captions is not known)"
    same = found.texts_sha256 == found.expected_texts_sha256
    return f"{found.texts_sha256[:16]} ({'as' if same else 'not as'} published)"


def _count(number: int | None) -> str:
    return "not known" if number is None else str(number)
