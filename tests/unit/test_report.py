"""Reports: the object, its file, its tables, its Markdown, and refused content."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.reports import SCORES, TEXTS, VIDEOS, make_examples, make_report
from vmr.errors import VmrError
from vmr.eval.metrics.columns import ColumnInfo, column_info
from vmr.eval.report.environment import Commit
from vmr.eval.report.examples import Example, pick_examples
from vmr.eval.report.frame_strips import FrameStrips
from vmr.eval.report.html import to_html
from vmr.eval.report.markdown import to_markdown
from vmr.eval.report.reference import reference_rows
from vmr.eval.report.report import Report
from vmr.eval.report.tables import curve_table, reference_table, score_table
from vmr.retrieval.results import Failure

DATA = Path(__file__).parent.parent / "data"


def test_a_report_survives_its_file(tmp_path):
    report = make_report(limit=3, alarms=("All scores are equal.",))
    report.save(tmp_path / "new" / "report.json")
    assert Report.load(tmp_path / "new" / "report.json") == report
    text = (tmp_path / "new" / "report.json").read_text()
    assert json.loads(text) == {"schema": "vmr-report/2", "partial": True, **json.loads(text)}
    assert '"ranks": {"embedding": {"text_to_video": [1, 2, 3]' in text  # on one line, however many there are


def test_a_report_written_earlier_still_opens(tmp_path):
    written = DATA / "report-2.json"  # by commit d22c462, its ranks and captions cut to three queries
    report = Report.load(written)
    assert (report.num_videos, report.complete, report.partial) == (109, True, False)
    assert report["text_to_video/R@1"] == 41.284403669724774 and report["rsum"] == 366.0550458715597
    assert report.ranks["embedding"]["text_to_video"] == (5, 52, 1)
    assert json.loads(report.to_json()) == {**json.loads(written.read_text()), "remarks": []}
    report.save(tmp_path / "report.html")  # the files of its videos are not known any more
    assert "090.mp4: no such file" in (tmp_path / "report.html").read_text()


def test_a_metric_by_name():
    report = make_report()  # ranks 1, 2, 3 in both columns
    assert report["text_to_video/R@1"] == report["embedding+dsl/text_to_video/R@1"] == pytest.approx(100 / 3)
    assert report["text_to_video/MdR"] == 2.0
    with pytest.raises(VmrError, match=r"no metric 'R@1': it has text_to_video/R@1, .*embedding\+dsl/rsum"):
        report["R@1"]


def test_the_suffix_says_how_a_report_is_saved(footage, tmp_path):
    report = make_report(video_files={"dog.mp4": footage / "bikes.mp4"})
    for name in ("report.json", "report.md", "report.HTML"):
        report.save(tmp_path / name)
    assert Report.load(tmp_path / "report.json") == report
    assert (tmp_path / "report.md").read_text() == report.to_markdown() == to_markdown(report)
    assert (tmp_path / "report.HTML").read_text() == to_html(report, {"dog.mp4": footage / "bikes.mp4"})
    assert "data:image/jpeg" in report.to_html() and "data:image/jpeg" not in report.to_html({})
    assert "bikes.mp4" not in report.to_json()  # a report must not reveal where the videos are
    for name in ("report", "report.txt", "report.json.gz"):
        with pytest.raises(VmrError, match=r"a report is saved as \.json, \.md or \.html"):
            report.save(tmp_path / name)
        assert not (tmp_path / name).exists()


def test_the_least_that_the_runner_gives_is_a_report(tmp_path):
    least = make_report(protocol=None, intervals={}, ranks={}, text_ids=(), video_ids=(), reference=(), examples={})
    least.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == least
    assert least.columns["embedding"] == column_info("embedding")
    assert "toy on msrvtt" in to_markdown(least) and "This report holds no ranks." in to_html(least)


def test_what_a_report_knows_of_its_machine():
    report = make_report()
    assert report.hardware.cpu and report.hardware.num_cores >= 1 and report.hardware.memory_bytes > 1 << 20
    assert report.versions["numpy"] == np.__version__ and "python" in report.versions
    assert report.commit is None or len(report.commit.id) == 40


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": {"embedding": {"rsum": float("nan")}}}, "scores.embedding: rsum is nan"),
        ({"scores": {"embeding": {}}}, "unknown kind of score 'embeding'"),
        ({"intervals": {"vtm": {}}}, "intervals names 'vtm', which the scores do not hold"),
        ({"intervals": {"embedding": {"MdR": (1.0, 2.0)}}}, "intervals.embedding names 'MdR'"),
        ({"intervals": {"embedding": {"rsum": (1.0, float("inf"))}}}, "intervals.embedding: rsum is inf"),
        ({"ranks": {"embedding": {"text_to_video": (1, 2)}}}, "embedding.text_to_video: 2 ranks of 3 queries"),
        ({"ranks": {"embedding": {"text_to_video": (1, 0, 2)}}}, "rank 0: ranks count from 1"),
        ({"ranks": {"embedding": {"sideways": (1,)}}}, "unknown direction 'sideways'"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(VmrError, match=message):
        make_report(
            **{"scores": {"embedding": {"text_to_video/R@1": 1.0, "rsum": 3.0}}, "ranks": {}, "examples": {}}
            | {"intervals": {}}
            | changes
        )


def damaged(content, change):
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(schema="vmr-report/1"), "schema vmr-report/1, expected vmr-report/2: evaluate"),
        (lambda content: content.pop("schema"), "it names no schema"),
        (lambda content: content.pop("ranks"), "missing key ranks"),
        (lambda content: content.update(colour="red", taste="sour"), "unknown keys colour, taste"),
        (lambda content: content.update(num_videos=True), "num_videos is True, expected an integer"),
        (lambda content: content.update(partial=True), "partial is True, limit is None"),
        (lambda content: content["failures"][0].pop("video"), r"failures\[0\]: missing key video"),
        (
            lambda content: content["scores"]["embedding"].update(rsum="high"),
            "scores.embedding.rsum is 'high', expected a number",
        ),
        (lambda content: content["reference"][0]["recalls"].pop(), "recalls has 2 items, expected 3"),
        (lambda content: content["ranks"]["embedding"].update(text_to_video=[1]), "1 ranks of 3 queries"),
    ],
)
def test_damaged_files_are_refused_in_one_line(change, message, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(damaged(json.loads(json.dumps(make_report().as_dict())), change))
    with pytest.raises(VmrError, match=message) as caught:
        Report.load(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "[1]", "{", "3", "null"])
def test_files_of_something_else_are_refused(content, tmp_path):
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(VmrError, match="not a report"):
        Report.load(tmp_path / "report.json")
    with pytest.raises(VmrError, match="cannot read this report"):
        Report.load(tmp_path)


def test_columns_say_what_they_owe_to_what():
    assert column_info("embedding") == ColumnInfo("dot products of text vectors and video vectors")
    assert "the 128 best" in column_info("vtm", 128).about
    assert column_info("vtm+dsl", 128).marks == "uses the other test queries"
    assert column_info("index:IVF64,SQ8").marks == "approximate search"
    assert column_info("index:HNSW32+qbnorm").marks == "uses the other test queries, approximate search"
    assert column_info("index:Flat").marks == ""
    for kind in ("cosine", "embedding+magic", ""):
        with pytest.raises(VmrError, match="unknown kind of score"):
            column_info(kind)


def test_examples_are_the_worst_and_the_clearest():
    # Query 0 leads by 0.9 - 0.2 = 0.7, query 3 by 0.5 - 0.1 = 0.4: of two queries of rank 1, query 0 is the best.
    scores = np.vstack([SCORES, [0.5, 0.1, float("nan")]])
    texts, own = (*TEXTS, "a dog"), [0, 1, 2, 0]
    found = pick_examples(scores, [1, 2, 3, 1], texts, own, VIDEOS, num_each=2, num_retrieved=2)
    assert [(example.group, example.text, example.rank) for example in found] == [
        ("worst", "a man runs", 3),
        ("worst", "a <b>cat</b> sleeps", 2),
        ("best", "a dog | barks", 1),
        ("best", "a dog", 1),
    ]
    assert found[0] == Example("worst", "a man runs", "man.mp4", 3, (("dog.mp4", 0.8), ("cat.mp4", 0.7)))
    (nothing,) = pick_examples([[float("nan")]], [1], ["x"], [0], ["v"])
    assert nothing.retrieved == (("v", None),)  # one query is shown once, and a NaN is no number of JSON
    with pytest.raises(VmrError, match="do not fit"):
        pick_examples(scores, [1, 2, 3], texts, own, VIDEOS)


def test_tables():
    report = make_report()
    table = score_table(report, "embedding")
    assert table.header == ("", "R@1", "R@5", "R@10", "MdR", "MnR")
    # Ranks 1, 2, 3: R@1 = 1/3, median and mean 2.
    assert [cell.text for cell in table.rows[0]] == ["text to video", "33.3", "100.0", "100.0", "2.0", "2.0"]
    assert [cell.small for cell in table.rows[0]][:3] == ["", "0.0 to 100.0", ""]
    # R@1 = 1/3; everything is found within 5.
    assert [cell.text for cell in curve_table(report, "text_to_video").rows[0]] == ["embedding", "33.3"] + ["100.0"] * 5
    rows = [[cell.text for cell in row] for row in reference_table(report, "text_to_video").rows]
    assert rows[0] == ["toy", "embedding", "over 3 of 4", "33.3", "100.0", "100.0", "this report"]
    assert ["VideoMamba-M 25M", "vtm", "zero-shot", "35.6", "58.1", "69.5"] in [row[:6] for row in rows]
    assert ["UMT-B/16 25M", "embedding", "zero-shot", "27.7", "-", "-"] in [row[:6] for row in rows]


def test_reference_rows_say_what_they_are():
    for name in ("msrvtt", "didemo", "activitynet", "lsmdc", "msvd"):
        rows = reference_rows(name)
        assert {"text_to_video", "video_to_text"} <= {row.direction for row in rows}
        for row in rows:
            recalls = [recall for recall in row.recalls if recall is not None]
            assert recalls == sorted(recalls) and 0 < recalls[0] <= recalls[-1] < 100
            assert row.kind and row.source and row.setting in ("zero-shot", "fine-tuned")
    assert len({(row.model, row.direction, row.kind, row.setting) for row in reference_rows("msrvtt")}) == len(
        reference_rows("msrvtt")
    )
    assert reference_rows("file") == ()


def test_markdown_says_first_what_must_be_read_first():
    text = to_markdown(make_report(limit=4, alarms=("All 9 scores are equal.",)))
    lines = text.splitlines()
    assert lines[0] == "# toy on msrvtt"
    assert lines[2] == "> **WARNING: All 9 scores are equal.**"
    assert "PARTIAL: a smoke run over the first 4 videos" in lines[4]
    assert "The scores are over 3 of 4 videos" in lines[6]
    assert "### embedding+dsl (uses the other test queries)" in lines
    assert "| text to video | 33.3 (0.0 to 100.0) | 100.0 | 100.0 | 2.0 | 2.0 |" in lines
    assert "| gone.mp4 | no such file |" in lines
    assert "0123456789abcdef" in text
    assert "WARNING" not in to_markdown(make_report(failures=()))


def test_markdown_shows_names_as_they_are():
    text = to_markdown(make_report(failures=(Failure("a|b\n<i>.mp4", "odd"),)))
    assert "| a\\|b &lt;i>.mp4 | odd |" in text.splitlines()


def test_html_is_one_file_that_trusts_no_text(footage, tmp_path):
    broken = tmp_path / "cat.mp4"
    broken.write_bytes(b"\0" * 100)
    report = make_report(
        encoder="<script>alert(1)</script>", commit=Commit("c" * 40, True), examples={"embedding": make_examples()}
    )
    page = to_html(report, {"dog.mp4": footage / "bikes.mp4", "cat.mp4": broken})
    assert "<script" not in page and "&lt;script&gt;" in page and "a &lt;b&gt;cat&lt;/b&gt; sleeps" in page
    assert page.count("data:image/jpeg;base64,") == 2  # the dog, right for one query and retrieved for the other
    assert "man.mp4: no such file" in page
    assert "cat.mp4: " in page
    assert "changes that are not in it" in page
    for outside in ('src="http', 'href="http', "url(http", "@import"):
        assert outside not in page
    assert page == to_html(report, {"dog.mp4": footage / "bikes.mp4", "cat.mp4": broken})


def test_strips_are_frames_side_by_side(footage):
    import io
    from base64 import b64decode

    from PIL import Image

    from vmr.data.decoding.segments import FrameSpec, read_segments

    strip = FrameStrips({"bikes": footage / "bikes.mp4"}).of("bikes")
    picture = np.asarray(Image.open(io.BytesIO(b64decode(strip.uri.partition(",")[2]))), dtype=float)
    (segment,) = read_segments(footage / "bikes.mp4", FrameSpec(4, 112))
    assert picture.shape == (112, 4 * 112, 3)
    for number, frame in enumerate(segment.video):
        shown = picture[:, number * 112 : (number + 1) * 112]
        assert np.abs(shown - frame.transpose(1, 2, 0)).mean() < 8  # of 255: JPEG is not exact
    assert FrameStrips({"bikes": footage / "bikes.mp4"}, num_frames=1).of("bikes").uri != strip.uri


def test_more_columns_than_colours_still_draw():
    kinds = {f"index:HNSW{number}": make_report().scores["embedding"] for number in range(12)}
    ranks = {kind: {"text_to_video": (1, 7, 600)} for kind in kinds}
    page = to_html(make_report(scores=kinds, ranks=ranks, intervals={}, examples={}))
    assert page.count("<svg") == 2 and "501+" in page


def test_multiple_choice_has_neither_directions_nor_ranks():
    report = make_report(
        scores={"embedding": {"accuracy": 60.0}},
        intervals={"embedding": {"accuracy": (50.0, 70.5)}},
        ranks={},
        examples={},
        reference=(),
    )
    assert "accuracy 60.0 (50.0 to 70.5)" in to_markdown(report)
    assert "60.0" in to_html(report)


def test_reports_are_read_and_written_without_torch(tmp_path):
    make_report().save(tmp_path / "a.json")
    code = (
        "import sys; from vmr.eval.report.report import Report;"
        f"report = Report.load({str(tmp_path / 'a.json')!r});"
        "report.to_html(); report.compare(report); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
