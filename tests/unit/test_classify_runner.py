"""Evaluation of classifiers: joins, averages, controls, what is kept, what is refused before anything is decoded."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.classifiers import COLOURS, ColourClassifier, write_colour_film, write_colour_tree
from vmr.data.decoding.options import DecodeOptions
from vmr.data.labels.label_set import MissingFile
from vmr.errors import ModelError, VmrError
from vmr.eval.classification.classes import ClassMap
from vmr.eval.classification.load import load_labelled
from vmr.eval.classification.logits import ClipLogits
from vmr.eval.classification.protocols.catalogue import PROTOCOLS
from vmr.eval.classification.report.report import ClassificationReport
from vmr.eval.classification.runner import _report, evaluate_classifier
from vmr.eval.classification.task import ClassifyOptions, prepare_classification
from vmr.retrieval.feature_cache import FeatureCache

ONE_WORKER = DecodeOptions(num_workers=1)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_tree(tmp_path_factory.mktemp("colours") / "tree")


def options(**changes: object) -> ClassifyOptions:
    return ClassifyOptions(decode=ONE_WORKER, **changes)


def test_a_tree_is_scored_and_kept(tree, tmp_path):
    classifier, cache = ColourClassifier(("red", "green", "blue", "grey")), FeatureCache(tmp_path)
    report = evaluate_classifier(tree, classifier, options=options(controls=True), cache=cache)
    assert report.scores["views"] == report.scores["static"] == {"top-1": 100.0, "mean class accuracy": 100.0}
    assert (report.num_videos, report.num_videos_asked, report.complete) == (6, 6, True)
    assert report.classes == classifier.labels and report.labels == ((2,), (2,), (1,), (1,), (0,), (0,))
    assert report.videos[:2] == ("blue/blue_0.mp4", "blue/blue_1.mp4")
    assert classifier.count == 3 * 6 * 12  # columns, videos, views
    again = evaluate_classifier(tree, classifier, options=options(average="logits"), cache=cache)
    assert classifier.count == 3 * 6 * 12 and again["top-1"] == 100.0 and list(again.scores) == ["views"]
    with pytest.raises(VmrError, match="no metric 'top-5': it has top-1"):
        again["top-5"]


def test_an_interrupted_evaluation_goes_on(tree, tmp_path):
    stopping = ColourClassifier(stop_at=30)
    cache = FeatureCache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        evaluate_classifier(tree, stopping, options=options(), cache=cache)
    going_on = ColourClassifier()
    report = evaluate_classifier(tree, going_on, options=options(), cache=cache)
    assert going_on.count == 6 * 12 - 24  # two videos were kept
    straight = evaluate_classifier(tree, ColourClassifier(), options=options())
    assert report.as_dict() | {"date": ""} == straight.as_dict() | {"date": ""}


def test_broken_and_missing_videos_are_named_and_counted(tmp_path):
    write_colour_tree(tmp_path / "videos", 1)
    (tmp_path / "videos" / "red" / "broken.mp4").write_bytes(b"no film")
    rows = ["blue/blue_0.mp4,0", "green/green_0.mp4,1", "red/red_0.mp4,2", "red/broken.mp4,2", "red/gone.mp4,2"]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    (tmp_path / "classes.txt").write_text("\n".join(COLOURS))
    data = load_labelled(tmp_path / "list.csv", video_dir=tmp_path / "videos", classes=tmp_path / "classes.txt")
    report = evaluate_classifier(data, ColourClassifier(), options=options())
    assert [failure.video for failure in report.failures] == ["red/broken.mp4", "red/gone.mp4"]
    assert report.failures[1].reason == "no such file" and not report.complete
    assert report.coverage == "3 of 5 videos (2 missing or unreadable)" and report["top-1"] == 100.0
    (tmp_path / "list.csv").write_text("red/broken.mp4,2")
    data = load_labelled(tmp_path / "list.csv", video_dir=tmp_path / "videos", classes=tmp_path / "classes.txt")
    with pytest.raises(VmrError, match=r"none of 1 videos can be scored, first: red/broken\.mp4: "):
        evaluate_classifier(data, ColourClassifier(), options=options())


def test_joins_by_path_and_by_the_name_of_the_file(tmp_path):
    # Two cameras film P03's breakfast: one of them shows another colour.
    write_colour_film(tmp_path / "P03" / "cam01" / "P03_red.avi", COLOURS["red"])
    write_colour_film(tmp_path / "P03" / "cam02" / "P03_red.avi", COLOURS["blue"])
    lines = ["P03/cam01/P03_red.avi,2", "P03/cam02/P03_red.avi,2"]
    (tmp_path / "list.csv").write_text("\n".join([*lines, lines[1]]))  # a line that stands twice counts once
    (tmp_path / "classes.txt").write_text("\n".join(COLOURS))
    data = load_labelled(tmp_path / "list.csv", classes=tmp_path / "classes.txt")
    by_path = evaluate_classifier(data, ColourClassifier(), options=options())
    assert (by_path.num_videos, by_path["top-1"], by_path.join) == (2, 50.0, "path")
    by_name = evaluate_classifier(data, ColourClassifier(), options=options(join="basename"))
    assert (by_name.num_videos, by_name["top-1"], by_name.videos) == (1, 100.0, ("P03_red",))
    assert "2 clips count as 1; of each name the first file counts" in by_name.notes[-1]


def test_clips_of_a_film_count_together_or_each(tmp_path):
    """As in the trimmed evaluation of LVU; the logits of the clips are given by hand."""
    write_colour_film(tmp_path / "film.mp4", COLOURS["red"])
    (tmp_path / "list.csv").write_text("film.mp4,2,100\n")
    (tmp_path / "classes.txt").write_text("\n".join(COLOURS))
    data = load_labelled(tmp_path / "list.csv", classes=tmp_path / "classes.txt", format="trimmed")
    tables = {"0-60": [9.0, 0, 0], "16-76": [0, 1, 0.0], "32-92": [0, 1, 0.0], "48-100": [0, 1, 0.0]}
    found = ClipLogits({f"film.mp4 {span} s": (np.array([row], np.float32),) for span, row in tables.items()})
    scores = {}
    for join in ("path", "clip", "basename"):
        task = prepare_classification(data, ColourClassifier(), options(join=join))
        scores[join] = _report(task, found)
    assert (scores["path"].num_videos, scores["clip"].num_videos, scores["basename"].num_videos) == (1, 4, 1)
    assert scores["clip"]["top-1"] == 25.0 and scores["clip"].videos[1] == "film.mp4 16-76 s"
    # red by the first clip alone; all together: red (1 + 3 x 0.212) / 4 = 0.409, green (0 + 3 x 0.576) / 4 = 0.432
    assert (scores["basename"]["top-1"], scores["path"]["top-1"]) == (100.0, 0.0)
    assert scores["path"].results["views"].probabilities[0][:2] == pytest.approx((0.432, 0.409), abs=0.001)


def test_parts_that_cannot_be_read_are_not_counted_as_videos(tmp_path):
    """Five parts of a film that is there, of which three cannot be read, and a film that is missing."""
    write_colour_film(tmp_path / "film.mp4", COLOURS["red"])
    (tmp_path / "list.csv").write_text("gone.mp4,1,100\nfilm.mp4,2,100\n")
    (tmp_path / "classes.txt").write_text("\n".join(COLOURS))
    data = load_labelled(tmp_path / "list.csv", classes=tmp_path / "classes.txt", format="trimmed")
    spans = ("0-60", "16-76", "32-92", "48-100", "64-100")
    read = {f"film.mp4 {span} s": (np.array([[9.0, 0, 0]], np.float32),) for span in spans[:2]}
    found = ClipLogits(read, failures={f"film.mp4 {span} s": "it ends before" for span in spans[2:]})
    reports = {
        join: _report(prepare_classification(data, ColourClassifier(), options(join=join)), found)
        for join in ("path", "clip", "basename")
    }
    assert reports["path"].coverage == "1 of 2 videos (1 missing or unreadable, 3 unreadable parts of others)"
    assert [failure.video for failure in reports["path"].failures] == ["film.mp4"] * 3 + ["gone.mp4"]
    assert reports["path"].failures[0].reason == "part 32-92 s: it ends before"
    assert reports["clip"].coverage == "2 of 10 videos (8 missing or unreadable)"
    assert reports["basename"].coverage == "1 of 2 videos (1 missing or unreadable)"


@pytest.mark.parametrize("broken", [False, True])
def test_no_other_file_takes_the_place_of_the_first_of_a_name(broken, tmp_path):
    write_colour_film(tmp_path / "cam02" / "P03_red.avi", COLOURS["red"])
    write_colour_film(tmp_path / "cam01" / "P04_red.avi", COLOURS["red"])
    if broken:
        (tmp_path / "cam01" / "P03_red.avi").write_bytes(b"no film")
    (tmp_path / "list.csv").write_text("cam01/P03_red.avi,2\ncam02/P03_red.avi,2\ncam01/P04_red.avi,2\n")
    (tmp_path / "classes.txt").write_text("\n".join(COLOURS))
    data = load_labelled(tmp_path / "list.csv", classes=tmp_path / "classes.txt")
    report = evaluate_classifier(data, ColourClassifier(), options=options(join="basename"))
    assert report.videos == ("P04_red",) and report.coverage == "1 of 2 videos (1 missing or unreadable)"
    assert [failure.video for failure in report.failures] == ["cam01/P03_red.avi"]
    assert "3 clips count as 2" in report.notes[-1] and "1 names stand for several files" in report.notes[-1]


def test_missing_files_after_the_limit_do_not_count(tmp_path):
    write_colour_tree(tmp_path, 1)
    lines = ["blue/blue_0.mp4,0", "red/gone.mp4,2", "green/green_0.mp4,1", "red/red_0.mp4,2", "red/far.mp4,2"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    (tmp_path / "classes.txt").write_text("\n".join(COLOURS))
    data = load_labelled(tmp_path / "list.csv", classes=tmp_path / "classes.txt")
    one = evaluate_classifier(data, ColourClassifier(), options=options(limit=1))
    assert one.complete and one.coverage == "1 of 5 videos"
    three = evaluate_classifier(data, ColourClassifier(), options=options(limit=3))
    assert three.coverage == "2 of 5 videos (1 missing or unreadable)" and three.failures[0].video == "red/gone.mp4"


def test_several_labels_and_numbers(tmp_path):
    write_colour_tree(tmp_path, 1)
    (tmp_path / "several.csv").write_text("red/red_0.mp4,red;green\ngreen/green_0.mp4,green\nblue/blue_0.mp4,blue\n")
    data = load_labelled(tmp_path / "several.csv")
    assert data.labels.target == "multi"
    with pytest.raises(VmrError, match="labels for several classes, but colours predicts one class: use another"):
        evaluate_classifier(data, ColourClassifier(), options=options())
    classifier = ColourClassifier()
    classifier.target = "multi"
    report = evaluate_classifier(data, classifier, options=options())
    # red is found first of three; green is the best of one of its two and the worse of two others for the other
    assert report.labels == ((0, 1), (1,), (2,)) and 66 < report["mAP"] < 100
    assert report.metric_rows().shape == (3, 6)
    (tmp_path / "like").mkdir()
    (tmp_path / "like" / "test.csv").write_text("../red/red_0.mp4,1.5\n../blue/blue_0.mp4,0.5\n")
    numbers = ColourClassifier(("red",))
    numbers.target = "regression"
    report = evaluate_classifier(load_labelled(tmp_path / "like" / "test.csv"), numbers, options=options())
    predicted = [row[0] for row in report.results["views"].scores]
    assert report.values == (1.5, 0.5) and report.classes == ()
    assert report["MSE"] == pytest.approx(np.mean((np.array(predicted) - (1.5, 0.5)) ** 2))


def test_the_classifier_decides_what_a_list_leaves_open(tmp_path):
    """One number or one class for each video may be all of a regression, or of several labels."""
    write_colour_tree(tmp_path, 1)
    (tmp_path / "numbers.csv").write_text("red/red_0.mp4,3\nblue/blue_0.mp4,1\n")
    numbers = ColourClassifier(("red",))
    numbers.target = "regression"
    assert evaluate_classifier(tmp_path / "numbers.csv", numbers, options=options()).values == (3.0, 1.0)
    (tmp_path / "fractions.csv").write_text("red/red_0.mp4,1.5\nblue/blue_0.mp4,0.5\n")
    assert evaluate_classifier(tmp_path / "fractions.csv", numbers, options=options()).values == (1.5, 0.5)
    with pytest.raises(VmrError, match=r"fractions\.csv has labels for a number, but colours predicts one class: use"):
        evaluate_classifier(tmp_path / "fractions.csv", ColourClassifier(), options=options())
    with pytest.raises(VmrError, match="has labels for one class, but colours predicts a number: use another"):
        evaluate_classifier(tmp_path, numbers, options=options())
    several = ColourClassifier()
    several.target = "multi"
    rows = [{"video": f"{name}/{name}_0.mp4", "label": name} for name in COLOURS]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    report = evaluate_classifier(tmp_path / "rows.json", several, options=options())
    assert (report.target, report["mAP"]) == ("multi", 100.0)
    rows[0]["label"] = []
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "classes.txt").write_text("\n".join(COLOURS))
    report = evaluate_classifier(tmp_path / "rows.json", several, options=options())
    assert (report.labels, report["mAP"]) == (((), (1,), (0,)), 100.0), "a video of no class"
    report.save(tmp_path / "report.json")
    assert ClassificationReport.load(tmp_path / "report.json").labels == report.labels


def test_views_are_the_protocols_unless_the_user_says_so(tree):
    own = evaluate_classifier(tree, ColourClassifier(), options=options(views="1x1", limit=2))
    assert (own.views.num_segments, own.views.num_crops, own.views_of_protocol, own.partial) == (1, 1, False, True)
    assert "1 segments x 1 crops (--views, not the protocol's)" in own.to_markdown()
    for views in ("4", "0x3", "4x2", "4x3x1"):
        with pytest.raises(VmrError, match=r"views is|num_crops is 2"):
            evaluate_classifier(tree, ColourClassifier(), options=options(views=views))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("red", "green"), "colours does not know 1 of the classes of tree: 'blue'"),
        (("0", "1"), "tree has 3 classes, but colours has 2"),
    ],
)
def test_classes_that_do_not_fit_are_found_before_decoding(tree, labels, message):
    with pytest.raises(VmrError, match=message):
        evaluate_classifier(tree, ColourClassifier(labels), options=options())


def test_what_else_is_refused_before_decoding(tree, tmp_path):
    with pytest.raises(ModelError, match="dict is no classifier"):
        evaluate_classifier(tree, {}, options=options())
    with pytest.raises(VmrError, match="leave out data_dir"):
        evaluate_classifier(tree, ColourClassifier(), data_dir=tree)
    with pytest.raises(VmrError, match="breakfast says split and format itself"):
        load_labelled("breakfast", data_dir=tree, split="test")
    with pytest.raises(VmrError, match="data set 'breakfast' needs data_dir"):
        load_labelled("breakfast")
    with pytest.raises(VmrError, match="shapes-actions needs no files: leave out data_dir"):
        load_labelled("shapes-actions", data_dir=tree)
    (tmp_path / "test.csv").write_text("red/red_0.mp4,11\n")
    with pytest.raises(VmrError, match="the list has 12 classes, but Breakfast has 10: is it the list of another"):
        load_labelled("breakfast", data_dir=tmp_path, video_dir=tree)
    one_frame = ColourClassifier()
    one_frame.num_frames = 1
    with pytest.raises(VmrError, match="controls show what motion is needed for"):
        evaluate_classifier(tree, one_frame, options=options(controls=True))


def test_drawn_actions_need_no_files_and_have_controls():
    names = load_labelled("shapes-actions").labels.classes
    classifier = ColourClassifier(names)
    report = evaluate_classifier("shapes-actions", classifier, options=options(limit=24))
    assert list(report.scores) == ["views", "static", "shuffled"] and report.num_videos_asked == 960
    assert [row[0] for row in report.labels] == list(range(24))
    # every class gets the same score, so that none is right
    assert report["top-1"] == 0.0 and set(report.results["views"].ranks) == {24}
    assert "24 of 24 videos have several classes with the same best score." in report.alarms
    with pytest.raises(VmrError, match="shapes-actions has no files that could be joined"):
        evaluate_classifier("shapes-actions", classifier, options=options(join="clip"))


def test_classes_that_overlap_are_scored_alone(tmp_path, tree):
    """Kinetics in small: the data has three classes, and the other set has two of them."""
    data = load_labelled(tree)
    protocol = replace(PROTOCOLS["k600-overlap-k400"], num_segments=1, num_crops=1)
    data = replace(data, protocol=protocol, overlap=("RED", "blue", "mauve"))
    report = evaluate_classifier(data, ColourClassifier(("green", "red", "blue", "grey")), options=options())
    assert report.classes == ("blue", "red") and report.num_videos == report.num_videos_asked == 4
    assert "2 of 3 classes are in both sets, and only they compete" in report.notes
    task = prepare_classification(data, ColourClassifier(("green", "red", "blue", "grey")), options())
    assert task.classes == ClassMap(("blue", "red"), (2, 1), {0: 0, 2: 1}, task.classes.notes)
    # Of three missing files one is of the class that does not compete.
    gone = tuple(MissingFile(f"{number}.mp4", number, 6) for number in range(3))
    data = replace(data, labels=replace(data.labels, missing=gone))
    report = evaluate_classifier(data, ColourClassifier(("green", "red", "blue", "grey")), options=options())
    assert report.coverage == "4 of 6 videos (2 missing or unreadable)"
    assert [failure.video for failure in report.failures] == ["0.mp4", "2.mp4"]


@pytest.mark.parametrize(
    ("own", "chosen", "followed", "note"),
    [
        (None, None, "sthsth", None),
        ("sthsth", None, "sthsth", None),
        ("sparse", None, "sparse", "frames by rule sparse, the classifier's own; the protocol's is sthsth"),
        ("sparse", "sthsth", "sthsth", "frames by rule sthsth, the user's choice; the classifier's own is sparse"),
        (None, "dense", "dense", "frames by rule dense, the user's choice; the protocol's is sthsth"),
    ],
)
def test_frames_are_taken_by_the_classifiers_own_rule(own, chosen, followed, note, tree):
    data = replace(load_labelled(tree), protocol=replace(PROTOCOLS["ssv2"], num_classes=None, num_videos=None))
    classifier = ColourClassifier()
    classifier.frames = own
    task = prepare_classification(data, classifier, options(frames=chosen))
    assert task.spec.frames == followed
    assert [one for one in task.notes if one.startswith("frames by rule")] == ([note] if note else [])


def test_the_rule_of_folders_of_frames_is_that_of_videos(tree):
    classifier = ColourClassifier()
    classifier.frames = "sthsth"
    data = replace(load_labelled(tree), protocol=replace(PROTOCOLS["ssv2-frames"], num_classes=None, num_videos=None))
    task = prepare_classification(data, classifier, options(views="1x1"))
    assert task.spec.frames == "sthsth_frames" and not any("by rule" in note for note in task.notes)
    with pytest.raises(VmrError, match="frames must be one of sparse, sthsth, sthsth_frames, dense, not 'some'"):
        options(frames="some")
    with pytest.raises(VmrError, match="shapes-actions has no videos to take frames of: leave out frames"):
        prepare_classification(
            load_labelled("shapes-actions"),
            ColourClassifier(load_labelled("shapes-actions").labels.classes),
            options(frames="dense"),
        )
