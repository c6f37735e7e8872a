"""Reports on classifiers: their file, their tables, their page with hostile names, and comparisons of them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.classification_reports import CLASSES, LABELS, NETWORK, make_classification_report
from tests.classifiers import COLOURS, write_colour_film
from tests.reports import make_report
from vmr.cli.eval import compare as compare_command
from vmr.cli.eval.outputs import OutputOptions, check_outputs, write
from vmr.errors import VmrError
from vmr.eval.classification.report.report import ClassificationReport, ColumnResult, Cost
from vmr.eval.classification.report.tables import class_scores, confusion_matrix, pair_table, reference_table, warnings
from vmr.eval.report.report import Report
from vmr.retrieval.results import Failure


def test_a_report_survives_its_file(tmp_path):
    report = make_classification_report(limit=8)
    report.save(tmp_path / "report.json")
    assert ClassificationReport.load(tmp_path / "report.json") == report
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["schema"] == "vmr-classification-report/1" and content["partial"] is True
    assert report["top-1"] == report["views/top-1"] == 75.0 and report["top-5"] == 100.0
    assert report["mean class accuracy"] == pytest.approx(100 * (0.5 + 0.5 + 4) / 6)


def test_damaged_and_other_reports_are_refused(tmp_path):
    file = tmp_path / "report.json"
    make_report().save(file)
    with pytest.raises(VmrError, match=r"report\.json: a report on retrieval, expected one on classification"):
        ClassificationReport.load(file)
    make_classification_report().save(file)
    with pytest.raises(VmrError, match="a report on classification, expected one on retrieval"):
        Report.load(file)
    content = json.loads(file.read_text())
    for key, value, said in (
        ("labels", [[6]] * 8, "a label is 6, but there are 6 classes"),
        ("videos", ["a"], "1 names, 8 labels of 8 videos"),
        ("num_videos", "8", "num_videos is '8', expected an integer"),
        ("scores", {"views": {"top-1": 1e999}}, "not a report|top-1 is inf"),
        ("results", {"other": content["results"]["views"]}, "results names 'other'"),
    ):
        file.write_text(json.dumps(content | {key: value}))
        with pytest.raises(VmrError, match=f"report.json: .*({said})"):
            ClassificationReport.load(file)
    file.write_text(json.dumps(content | {"schema": "vmr-classification-report/9"}))
    with pytest.raises(VmrError, match="schema vmr-classification-report/9, expected vmr-classification-report/1"):
        ClassificationReport.load(file)


def test_classes_from_the_worst_to_the_best():
    report = make_classification_report()
    assert confusion_matrix(report)[0].tolist() == [1, 1, 0, 0, 0, 0]
    worst, second, *others = class_scores(report)
    assert (worst.name, worst.num_videos, worst.num_right, worst.taken_for) == (CLASSES[0], 2, 1, CLASSES[1])
    assert (second.name, second.accuracy, second.taken_for) == (CLASSES[1], 50.0, CLASSES[2])
    assert all(row.num_right == 1 and row.taken_for is None for row in others)
    assert [[cell.text for cell in row] for row in pair_table(report).rows] == [
        [CLASSES[0], CLASSES[1], "1"], [CLASSES[1], CLASSES[2], "1"],
    ]  # fmt: skip


def test_what_is_unusual_is_said_first():
    report = make_classification_report(views_of_protocol=False, limit=3, alarms=("All equal.",), join="basename")
    said = warnings(report)
    assert said[0] == "All equal." and said[1].startswith("PARTIAL") and "8 of 9 videos" in said[2]
    assert said[3] == "The views are not those of breakfast: its scores cannot be compared with these."
    text = report.to_markdown()
    assert text.index("All equal") < text.index("75.0") and "by basename: files whose names are equal up to" in text


def test_published_rows_say_what_differs():
    rows = reference_table(make_classification_report(reference=published())).rows
    assert [cell.text for cell in rows[0]][:4] == ["toy", "2 x 16, 4 x 3", "over 8 of 9", "75.0"]
    assert any(row[0].text == "videomamba-ti-breakfast-f32" and "one video" in row[2].text for row in rows)


def test_published_errors_stand_beside_ours():
    report = make_classification_report(
        target="regression", classes=(), labels=(), values=(1.0,) * 8, scores={"views": {"MSE": 0.254}}, intervals={},
        results={"views": ColumnResult(scores=((1.5,),) * 8)}, reference=published("lvu-view"),
    )  # fmt: skip
    table = reference_table(report)
    assert table.header[3:5] == ("MSE", "top-5")
    assert [(row[0].text, row[3].text) for row in table.rows] == [
        ("toy", "0.25"), ("ViS4mer", "3.63"), ("VideoMamba-Ti", "2.90"),
    ]  # fmt: skip
    assert published("lvu-like") and "| 3.63 |" in report.to_markdown()


def published(protocol="breakfast"):
    from vmr.eval.classification.report.reference import published_accuracies

    return published_accuracies(protocol)


def test_hostile_names_are_text_on_the_page_and_in_markdown(tmp_path):
    film = write_colour_film(tmp_path / "a.mp4", COLOURS["red"])
    report = make_classification_report(video_files={"video <b>6</b>.mp4": film})
    page = report.to_html()
    assert "<script" not in page and "<b>6" not in page and "gone<i>" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3  # in the plot and in the tables
    assert "data:image/jpeg;base64" in page and "video &lt;b&gt;7&lt;/b&gt;.mp4: no such file" in page
    assert re.search(r'<svg role="img" aria-label="Confusion matrix', page)
    assert "http://" not in page.replace("http://www.w3.org/", "") and "https://" not in page
    text = report.to_markdown()
    assert "<script" not in text and "a\\|b\\*c" in text
    assert str(film) not in report.to_json()


def test_names_that_are_not_unicode_are_escaped(tmp_path):
    odd = "a\udcff"  # a file name with the byte 0xff
    report = make_classification_report(
        dataset=odd, classes=(odd, *CLASSES[1:]), videos=(odd, *map(str, range(7))), failures=(Failure(odd, "gone"),)
    )
    files = OutputOptions(*(str(tmp_path / f"report.{suffix}") for suffix in ("json", "md", "html")))
    write(report, files)
    assert ClassificationReport.load(files.out).videos[0] == odd
    for file in (files.markdown, files.html):
        assert r"a\udcff" in Path(file).read_text(encoding="utf-8")
        written = Path(file).read_bytes()
        report.save(file)
        assert Path(file).read_bytes() == written
    retrieval = make_report(dataset=odd, video_ids=(odd, *make_report().video_ids[1:]))
    write(retrieval, files)
    assert all(r"a\udcff" in Path(file).read_text(encoding="utf-8") for file in (files.markdown, files.html))


def test_each_report_has_a_file_of_its_own(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    report = str(tmp_path / "report")
    check_outputs(OutputOptions(out=report, html=str(tmp_path / "page")))
    for other in (report, str(tmp_path / "link" / "report"), str(tmp_path / "x" / ".." / "report")):
        with pytest.raises(VmrError, match=r"--html .*report is the file that --out names: give each report a file of"):
            check_outputs(OutputOptions(out=report, html=other))
    assert not Path(report).exists()


def test_a_report_on_a_number_has_no_classes():
    report = make_classification_report(
        target="regression", classes=(), labels=(), values=(1.0,) * 8, scores={"views": {"MSE": 0.25}}, intervals={},
        results={"views": ColumnResult(scores=((1.5,),) * 8)},
    )  # fmt: skip
    assert report.metric_rows().tolist() == [[0.25]] * 8
    page = report.to_html()
    assert "0.250" in page and "Confusion matrix" not in page and 'href="#worst"' not in page


def test_a_better_report_video_by_video():
    a, b = make_classification_report(), make_classification_report(LABELS, model="better", cost=None)
    result = a.compare(b)
    rows = {row.metric: row for row in result.rows}
    assert (rows["views/top-1"].a, rows["views/top-1"].b, rows["views/top-1"].difference) == (75.0, 100.0, 25.0)
    assert result.num_videos == 8 and not result.same and a.compare(a).same
    assert rows["views/top-1"].low == 0.0 and rows["views/top-1"].high >= 50.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"average": "logits"}, "average of probabilities against logits"),
        ({"join": "basename"}, "joined by path against basename"),
        ({"dataset": "other"}, "on breakfast against .* on other"),
        (
            {"videos": ("x", *(f"video <b>{n}</b>.mp4" for n in range(1, 8)))},
            "8 videos against 8, 1 of the first and 1",
        ),
        ({"labels": ((1,), *((label,) for label in LABELS[1:]))}, "some videos have other labels"),
    ],
)
def test_different_evaluations_are_refused_by_name(changes, said):
    a = make_classification_report()
    b = replace(a, **changes)
    with pytest.raises(VmrError, match=f"the reports cannot be compared: .*{said}.*--force"):
        a.compare(b)
    assert a.compare(b, force=True).num_videos == (8 if changes.keys().isdisjoint({"videos", "labels"}) else 7)


def test_models_of_other_clips_can_be_compared_and_other_classes_not():
    a = make_classification_report()
    assert a.compare(replace(a, views=replace(a.views, num_frames=16, size=224))).same
    with pytest.raises(VmrError, match=r"6 classes \(single\) against 6 \(single\), or other names"):
        a.compare(replace(a, classes=(*CLASSES[:5], "other")), force=True)
    with pytest.raises(VmrError, match="views 4 x 3 by rule sparse against 1 x 1 by rule sparse"):
        a.compare(replace(a, views=replace(a.views, num_segments=1, num_crops=1)))


def test_the_command_shows_accuracy_beside_cost(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = ["a.json", "b.json", "c.json"]
    make_classification_report().save(files[0])
    make_classification_report(LABELS, model="better", cost=None).save(files[1])
    make_classification_report(LABELS, model="third", cost=None).save(files[2])
    compare_command(files[0], files[1], [files[2]])
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if "toy" in line)
    assert "75.0" in line and "0.007 M" in line and "2 G x 12" in line
    assert next(line for line in out.splitlines() if "better" in line).count("│ - ") == 2
    assert "b.json (b) against" in out and "c.json (b) against" in out and "+25.0" in out and "paired: 8 videos" in out


@pytest.mark.slow
def test_cost_is_measured_here(tmp_path, capsys):
    """pytest -m slow tests/unit/test_classification_report.py"""
    files = [str(tmp_path / name) for name in ("a.json", "b.json")]
    make_classification_report().save(files[0])
    make_classification_report(LABELS, model="better", cost=None).save(files[1])
    compare_command(*files, measure=True)
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if "toy" in line)
    assert re.search(r"\d\.\d+e?-?\d* +│ +\d+ MiB", line)  # CPU seconds of a video, and memory
    assert next(line for line in out.splitlines() if "better" in line).count("│ - ") == 4


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"widht": 16}, "unknown key widht"),
        ({"width": "wide"}, "cost.network.width is 'wide', expected an integer"),
        ({"kind": "resnet"}, "cost.network.kind is 'resnet', expected one of"),
        ({"patch_size": 5}, "image_size 16 is no multiple of patch_size 5"),
    ],
)
def test_networks_that_cannot_be_measured_are_named_before_anything_is(network, said, tmp_path, capsys):
    files = [str(tmp_path / name) for name in ("a.json", "b.json")]
    make_classification_report(cost=None).save(files[0])
    make_classification_report(cost=Cost(7, 7, {**NETWORK, **network})).save(files[1])
    with pytest.raises(VmrError, match=rf"b\.json: --measure cannot build this network: .*{said}.*: evaluate again"):
        compare_command(*files, measure=True)
    assert capsys.readouterr().out == ""


def test_reports_of_two_tasks_have_nothing_to_compare(tmp_path):
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    make_classification_report().save(a)
    make_report().save(b)
    with pytest.raises(VmrError, match=r"a\.json is a report on classification, .*b\.json one on retrieval"):
        compare_command(str(a), str(b))
    with pytest.raises(VmrError, match="--column is for reports on retrieval"):
        compare_command(str(a), str(a), column="views")
    with pytest.raises(VmrError, match="--measure measures classifiers"):
        compare_command(str(b), str(b), measure=True)
    with pytest.raises(VmrError, match="two reports on retrieval are compared at a time"):
        compare_command(str(b), str(b), [str(b)])
