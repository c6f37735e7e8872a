"""What both tasks of `vmr-eval` share: which files are written, where features are kept, how a report ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from vmr.checks import require_extra
from vmr.cli.common import fail
from vmr.cli.output import print_failures, print_remarks
from vmr.errors import VmrError

if TYPE_CHECKING:
    from vmr.eval.classification.report.report import ClassificationReport
    from vmr.eval.report.report import Report
    from vmr.eval.report.saved import SavedReport

AnyReport = TypeVar("AnyReport", "Report", "ClassificationReport")

WAIT_AT_MOST = timedelta(days=7)
"""How long the processes of torchrun wait for the slowest one."""


@dataclass(frozen=True)
class OutputOptions:
    """Which files are written.

    Attributes:
        out: a JSON report to write
        markdown: the same as Markdown
        html: the same as one page, with plots, and the worst results in pictures
        allow_missing: exit with status 0 even if some videos were missing or unreadable
    """

    out: str | None = None
    markdown: str | None = None
    html: str | None = None
    allow_missing: bool = False


@dataclass(frozen=True)
class CacheOptions:
    """Where features are kept.

    Attributes:
        cache: folder of features that were computed earlier; default, $VMR_CACHE or ~/.cache/vmr
        no_cache: embed everything again and keep nothing; an interrupted evaluation starts from the beginning
    """

    cache: str | None = None
    no_cache: bool = False

    def __post_init__(self) -> None:
        if self.no_cache and self.cache is not None:
            raise VmrError("--no-cache and --cache contradict each other: give one of them")


def check_outputs(outputs: OutputOptions) -> None:
    """Check before the work begins that the reports can be made and written.

    Args:
        outputs: the files.

    Raises:
        VmrError: a file cannot be written, or two reports would be one file.
        MissingExtraError: a page needs a package that is not installed.
    """
    from vmr.files import require_writable

    if outputs.html is not None:
        require_extra("report", "jinja2", "matplotlib", "PIL")
    given = {"--out": outputs.out, "--markdown": outputs.markdown, "--html": outputs.html}
    options: dict[Path, str] = {}  # the real file -> the option that names it
    for option, file in given.items():
        if file is None:
            continue
        require_writable(file)
        other = options.setdefault(Path(file).resolve(), option)
        if other != option:
            raise VmrError(f"{option} {file} is the file that {other} names: give each report a file of its own")


def finish(report: AnyReport, show: Callable[[AnyReport], None], outputs: OutputOptions, is_main: bool) -> None:
    """Print a report, write it in the requested formats, and exit with status 2 if videos are missing.

    Args:
        report: the report.
        show: prints its numbers.
        outputs: the files, and whether videos may be missing.
        is_main: whether this is the main process, which alone prints and writes.
    """
    if is_main:
        print_failures(report.failures)
        print_remarks(report.remarks)
        show(report)
        write(report, outputs)
    if not report.complete and not outputs.allow_missing:
        fail(f"the score is over {report.coverage}: repair the files listed above, or give --allow-missing")


def write(report: SavedReport, outputs: OutputOptions) -> None:
    """Write a report in the requested formats, whatever the suffixes of the files.

    Args:
        report: the report.
        outputs: the files.
    """
    from vmr.eval.report.saved import encoded
    from vmr.files import write_atomically

    formats = ((outputs.out, report.to_json), (outputs.markdown, report.to_markdown), (outputs.html, report.to_html))
    for file, as_text in formats:
        if file is not None:
            write_atomically(Path(file), encoded(as_text()))
            print(f"report: {file}")
