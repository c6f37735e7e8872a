"""How a command line becomes the arguments of a function."""

from dataclasses import dataclass, field

import pytest

from vmr.cli.common import run
from vmr.data.decoding.options import DecodeOptions
from vmr.errors import VmrError


@dataclass(frozen=True)
class PaintOptions:
    """How it is painted.

    Attributes:
        colour: of the paint
        coats: how many coats
    """

    colour: str = "white"
    coats: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.colour == "plaid":
            raise VmrError("--colour plaid: no such paint")


def called(arguments: list[str]) -> dict:
    """What a command gets from a command line."""
    got = {}

    def paint(wall: str, height: float = 2.5, *, paint: PaintOptions, decode: DecodeOptions) -> None:
        """Paint a wall.

        Args:
            wall: which
            height: of it
        """
        got.update(wall=wall, height=height, paint=paint, decode=decode)

    run("paint", paint, ["wall"], "paint north", arguments)
    return got


def refusal(arguments: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        called(arguments)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_fields_of_a_group_are_options():
    expected = {"wall": "north", "height": 2.5, "paint": PaintOptions(), "decode": DecodeOptions()}
    assert called(["north"]) == expected
    got = called(["north", "--colour", "red", "--coats", "[1, 2]", "--num-workers", "3", "--timeout-s", "7"])
    assert got["paint"] == PaintOptions("red", [1, 2])
    assert got["decode"] == DecodeOptions(num_workers=3, timeout_s=7.0)


def test_help_shows_the_options_of_groups_under_their_new_names_alone(capsys):
    with pytest.raises(SystemExit):
        called(["--help"])
    text = capsys.readouterr().out
    for said in ("--colour COLOUR", "of the paint", "--num-workers", "--timeout-s", "--reader"):
        assert said in text
    assert "--workers" not in text and "--timeout " not in text


def test_old_names_still_work(tmp_path):
    expected = DecodeOptions(num_workers=3, timeout_s=7.0)
    assert called(["north", "--workers", "3", "--timeout", "7"])["decode"] == expected
    (tmp_path / "paint.yaml").write_text("wall: north\nworkers: 3\ntimeout: 7\n")
    assert called(["--config", str(tmp_path / "paint.yaml")])["decode"] == expected
    assert called([f"--config={tmp_path / 'paint.yaml'}"])["decode"] == expected
    # what stands on the command line wins
    got = called(["--config", str(tmp_path / "paint.yaml"), "--num-workers", "5"])["decode"]
    assert got == DecodeOptions(num_workers=5, timeout_s=7.0)


def test_a_printed_config_has_the_values_of_old_names(tmp_path, capsys):
    (tmp_path / "paint.yaml").write_text("timeout: 7\n")
    with pytest.raises(SystemExit):
        called(["north", "--config", str(tmp_path / "paint.yaml"), "--workers", "3", "--print_config"])
    printed = capsys.readouterr().out
    assert "num_workers: 3\n" in printed and "timeout_s: 7.0\n" in printed


def test_one_kind_of_index_needs_no_list():
    from vmr.cli.eval.retrieval import ScoreOptions, _eval_options

    for arguments, kinds in (
        ([], ()),
        (["--index-kind", "hnsw"], ("hnsw",)),
        (["--index-kind", "IVF64,SQ8"], ("IVF64,SQ8",)),
        (["--index-kind", "[sq8, hnsw]"], ("sq8", "hnsw")),
    ):
        got = []

        def score(*, scores: ScoreOptions) -> None:
            """Score."""
            got.append(scores)  # noqa: B023  called at once

        run("score", score, [], "score", arguments)
        assert _eval_options(got[0], DecodeOptions()).index_kinds == kinds


def test_errors_are_one_line(capsys):
    assert refusal(["north", "--colour", "plaid"], capsys) == "error: --colour plaid: no such paint"
    assert (
        refusal(["north", "--workers=0"], capsys)
        == "error: --num-workers is 0, but must be a whole number of at least 1"
    )
    assert "--timeout-s is 0.0" in refusal(["north", "--timeout-s", "0"], capsys)
    assert "there is no option --color: did you mean --colour?" in refusal(["north", "--color", "red"], capsys)


def test_words_may_stand_after_options():
    got = []

    def find(index: str, query: str | None = None, k: int = 5, loud: bool = False, where: str | None = None) -> None:
        """Find.

        Args:
            index: which
            query: what
            k: how many
            loud: print more
            where: a condition
        """
        got.append((index, query, k, loud, where))

    for arguments, expected in (
        (["i"], ("i", None, 5, False, None)),
        (["i", "a dog"], ("i", "a dog", 5, False, None)),
        (["i", "--k", "2", "a dog"], ("i", "a dog", 2, False, None)),
        (["--loud", "i", "--k=2", "a dog"], ("i", "a dog", 2, True, None)),
        (["--k", "-1", "i", "--where", "x", "-"], ("i", "-", -1, False, "x")),
        (["i", "null"], ("i", "null", 5, False, None)),
        (["i", "--", "--k"], ("i", "--k", 5, False, None)),
    ):
        run("find", find, ["index", "query"], "find i", arguments)
        assert got.pop() == expected


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 15 GiB for an array"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 64000000000 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 64 GiB"),
    ],
)
def test_a_lack_of_memory_is_one_line_and_other_errors_are_not_hidden(error, capsys):
    def paint() -> None:
        """Paint."""
        raise error

    with pytest.raises(SystemExit) as stopped:
        run("paint", paint, [], "paint", [])
    assert stopped.value.code == 2 and capsys.readouterr().err.startswith("error: there is not enough memory: use")
    error = RuntimeError("a size does not fit")
    with pytest.raises(RuntimeError, match="a size does not fit"):
        run("paint", paint, [], "paint", [])
