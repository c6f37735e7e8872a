"""What `vmr-data check` and `vmr-data check-labels` print and write."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmr.cli.output import print_table
from vmr.errors import VmrError
from vmr.progress import printable

if TYPE_CHECKING:
    from vmr.data.doctor.findings import Diagnosis


def finish_check(place: str, found: "Diagnosis", report: str | None, about: Mapping[str, Any]) -> None:
    """Print how much was looked at and what is wrong, and write the report.

    Args:
        place: the training set, as it was typed.
        found: on it.
        report: JSON file to write; None for none.
        about: what the report says of the check itself.

    Raises:
        VmrError: the set is not fit to train on, or the report cannot be written.
    """
    counted = f"{place}: {', '.join(f'{count} {name}' for name, count in found.counts.items())}"
    rows = [
        (meaning, str(len(findings)), ", ".join(dict.fromkeys(finding.name for finding in findings[:3])))
        for problem, meaning in found.problems.items()
        if (findings := found.of(problem))
    ]
    print(printable(counted if rows else f"{counted}: nothing wrong"))
    if rows:
        print_table("", ("found", "count", "such as"), rows)
    write_report(report, {**about, **found.as_dict()})
    if found.spoiled_by:
        raise VmrError(f"{place} is not fit to train on: {'; '.join(found.spoiled_by)}")


def write_report(report: str | None, content: Mapping[str, Any]) -> None:
    """Write the file of the report, if one is asked for.

    Args:
        report: JSON file to write.
        content: of the file.

    Raises:
        VmrError: it cannot be written.
    """
    from vmr.files import write_atomically

    if report is not None:
        write_atomically(Path(report), (json.dumps(content, indent=1) + "\n").encode())
        print(f"report: {report}")
