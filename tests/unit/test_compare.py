"""Two reports against each other: what is paired, what is refused, what is printed."""

from dataclasses import replace

import numpy as np
import pytest

from tests.reports import make_report
from vmr.cli.eval.compare import compare as compare_command
from vmr.errors import VmrError
from vmr.eval.metrics.bootstrap import paired_difference
from vmr.eval.metrics.ranks import DirectionRanks, bidirectional_summary
from vmr.eval.report.compare import compare
from vmr.eval.report.report import ProtocolInfo, Report

NUM = 40


def report_of(text_ranks, *, kinds=("embedding",), names=None, **changes) -> Report:
    """A report of NUM texts and videos whose ranks are the same in both directions and in all kinds."""
    names = names or tuple(f"q{number}" for number in range(len(text_ranks)))
    ranks = np.array(text_ranks)
    both = {"text_to_video": tuple(text_ranks), "video_to_text": tuple(text_ranks)}
    return make_report(
        **{
            "scores": {kind: bidirectional_summary(DirectionRanks(ranks, ranks)) for kind in kinds},
            "ranks": dict.fromkeys(kinds, both),
            "text_ids": names,
            "video_ids": names,
            "num_videos": len(names),
            "num_texts": len(names),
            "intervals": {},
            "examples": {},
        }
        | changes
    )


def rows_of(comparison):
    (column,) = comparison.columns
    return {row.metric: row for row in column.rows}


def test_differences_worked_by_hand():
    # b finds the first of 40 queries at once, where a has rank 2; the others are the same.
    a, b = report_of([2, *[1] * 39]), report_of([1] * 40)
    rows = rows_of(compare(a, b))
    row = rows["text_to_video/R@1"]
    assert (row.a, row.b, row.difference) == (97.5, 100.0, 2.5)  # 39 of 40, 40 of 40
    # A resample holds the query k times: b - a is 2.5 k, never below 0, and 0 where the query was not drawn, which
    # happens with chance (39/40)^40 = 0.363.
    assert row.low == 0.0 and row.high in (5.0, 7.5)
    assert row.share_not_above == pytest.approx((39 / 40) ** 40, abs=0.04)
    assert not row.clear
    mean = rows["text_to_video/MnR"]
    assert (mean.a, mean.b) == (1.025, 1.0) and mean.difference == pytest.approx(-0.025)


def test_the_difference_is_of_the_second_minus_the_first():
    a, b = report_of([3] * NUM), report_of([1] * NUM)
    better, worse = rows_of(compare(a, b)), rows_of(compare(b, a))
    assert better["video_to_text/R@1"].difference == 100.0 and better["video_to_text/R@1"].clear
    assert better["video_to_text/MdR"].difference == -2.0
    assert worse["video_to_text/R@1"].difference == -100.0 and worse["video_to_text/R@1"].share_not_above == 1.0


def test_a_report_does_not_differ_from_itself():
    a = report_of([1, 2, 3, 4] * 10)
    for row in rows_of(compare(a, a)).values():
        assert (row.difference, row.low, row.high, row.clear) == (0.0, 0.0, 0.0, False)


def test_columns_are_compared_kind_by_kind():
    a, b = report_of([1, 2], kinds=("embedding", "vtm", "static")), report_of([2, 2], kinds=("vtm", "embedding"))
    result = compare(a, b)
    assert [(column.kind_a, column.kind_b) for column in result.columns] == [("embedding",) * 2, ("vtm",) * 2]
    assert result.left_out == ("static",) and result.differences == ()
    assert result.columns[0].num_queries == {"text_to_video": 2, "video_to_text": 2}
    (only,) = compare(a, b, column="vtm").columns
    assert only.kind_a == "vtm"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"protocol": ProtocolInfo("msrvtt", 2, "f" * 16, "", "")},
            r"protocol msrvtt version 1 \(0123456789abcdef\) on msrvtt against msrvtt version 2 \(ffffffffffffffff\)",
        ),
        ({"protocol": None}, "protocol msrvtt version 1 .* against msrvtt"),
        ({"dataset": "other"}, r"protocol .* on msrvtt against .* on other"),
        ({"num_videos": 9}, "a gallery of 4 videos against 9"),
        ({"num_texts": 9}, "a gallery of 4 texts against 9"),
        ({"text_ids": ("q0", "q1", "x", "q3")}, "text queries: the same number, but number 3 is 'q2' against 'x'"),
        ({"video_ids": ("q0", "q1", "q3", "q2")}, "video queries: .* number 3 is 'q2' against 'q3'"),
    ],
)
def test_different_measurements_are_refused_by_name(changes, message):
    a = report_of([1, 2, 3, 4])
    b = replace(a, **changes)
    with pytest.raises(VmrError, match=f"the reports cannot be compared: {message}.*--force") as refused:
        compare(a, b)
    (difference,) = compare(a, b, force=True).differences
    assert difference in str(refused.value)


def test_different_kinds_are_refused_by_name():
    a = report_of([1, 2], kinds=("embedding", "vtm"))
    b = report_of([2, 2], kinds=("embedding",))
    with pytest.raises(VmrError, match="scores of kind vtm against embedding"):
        compare(a, b, column="vtm=embedding")
    forced = compare(a, b, column="vtm=embedding", force=True)
    assert rows_of(forced)["text_to_video/R@1"].a == 50.0
    with pytest.raises(VmrError, match="the second report has no ranks of kind 'vtm': it holds embedding"):
        compare(a, b, column="vtm", force=True)
    with pytest.raises(VmrError, match="no kind of score that both hold ranks of: vtm against embedding"):
        compare(report_of([1], kinds=("vtm",)), report_of([1]))
    deep, shallow = (report_of([1, 2], kinds=("vtm",), rerank_depth=depth) for depth in (128, 16))
    with pytest.raises(VmrError, match=r"vtm: .* of the 128 best .* against .* of the 16 best"):
        compare(deep, shallow)


def test_force_pairs_the_queries_that_both_ask_once():
    # "twice" stands twice in a, so nobody knows which of the two is b's; "mine" and "yours" have no partner.
    a = report_of([1, 2, 5, 9, 9], names=("both", "mine", "also", "twice", "twice"))
    b = report_of([4, 1, 7, 3], names=("also", "both", "yours", "twice"))
    result = compare(a, b, force=True)
    assert len(result.differences) == 4  # two galleries, two sets of queries
    assert result.columns[0].num_queries == {"text_to_video": 2, "video_to_text": 2}
    row = rows_of(result)["text_to_video/MnR"]
    assert (row.a, row.b) == (3.0, 2.5)  # both: 1 and 1; also: 5 and 4
    with pytest.raises(VmrError, match="no query of text to video is in both"):
        compare(a, report_of([1], names=("other",)), force=True)


def test_repeated_captions_are_no_difference():
    a = report_of([1, 2, 3], names=("same", "same", "other"))
    assert compare(a, a).columns[0].num_queries["text_to_video"] == 3


def test_numbers_are_those_of_the_bootstrap():
    rng = np.random.default_rng(0)
    of_a, of_b = rng.integers(1, 30, NUM), rng.integers(1, 30, NUM)
    rows = rows_of(compare(report_of(of_a.tolist()), report_of(of_b.tolist())))
    for name, difference in paired_difference(of_b, of_a).items():
        row = rows[f"text_to_video/{name}"]
        assert (row.difference, row.low, row.high, row.share_not_above) == tuple(difference)


def test_command(tmp_path, capsys):
    a, b = report_of([3] * NUM, kinds=("embedding", "vtm")), report_of([1] * NUM, dataset="other")
    for name, report in (("a.json", a), ("b.json", b)):
        report.save(tmp_path / name)
    with pytest.raises(VmrError, match="on other"):
        compare_command(str(tmp_path / "a.json"), str(tmp_path / "b.json"))
    compare_command(str(tmp_path / "a.json"), str(tmp_path / "b.json"), force=True)
    shown = capsys.readouterr()
    assert "FORCED although the reports differ: protocol" in shown.err
    assert "+100.0 to +100.0" in shown.out and "clear" in shown.out
    assert "paired: 40 queries text to video, 40 queries video to text" in shown.out
    assert "only in one report: vtm" in shown.out
