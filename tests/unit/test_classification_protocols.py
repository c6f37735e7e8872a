"""Protocols of classification: those that come with vmr, files of one's own, and which classes compete."""

from pathlib import Path

import pytest

from vmr.data.views.spec import ViewSpec
from vmr.errors import AnnotationError, VmrError
from vmr.eval.classification.classes import match_classes
from vmr.eval.classification.load import load_labelled
from vmr.eval.classification.protocols.catalogue import FILE, PROTOCOLS, find_protocol, read_protocols

LVU = {"relation": 4, "speak": 5, "scene": 6, "director": 10, "genre": 4, "writer": 10, "year": 9}


def test_published_numbers():
    facts = {
        name: (one.num_classes, one.num_videos, one.num_segments, one.num_crops) for name, one in PROTOCOLS.items()
    }
    assert facts["k400"] == (400, 19787, 4, 3)
    assert facts["ssv2"] == facts["ssv2-frames"] == (174, 24777, 2, 3)
    assert facts["breakfast"] == (10, 410, 4, 3)
    assert facts["coin"] == (180, 2796, 10, 3)
    assert facts["imagenet"] == (1000, 50000, 1, 1)
    assert [facts[name][0] for name in ("k600", "k700", "ucf101", "hmdb51", "diving48")] == [600, 700, 101, 51, 48]
    for task, num_classes in LVU.items():
        for family in ("lvu", "lvu-trimmed"):
            assert facts[f"{family}-{task}"] == (num_classes, None, 4, 3)
    assert {name for name, one in PROTOCOLS.items() if one.target == "regression"} == {
        "lvu-like", "lvu-view", "lvu-trimmed-like", "lvu-trimmed-view",
    }  # fmt: skip
    assert PROTOCOLS["imagenet"].view_spec(1, 224, "sparse").resize == "image"
    assert PROTOCOLS["ssv2"].view_spec(8, 224, "sthsth") == ViewSpec(8, 224, "sthsth", num_segments=2, num_crops=3)


def test_rules_make_the_hash_and_words_do_not(tmp_path):
    text = Path(find_protocol.__code__.co_filename).with_name("coin.yaml").read_text()
    (tmp_path / "coin.yaml").write_text(text.replace("title: COIN", "title: Coins"))
    (tmp_path / "other.yaml").write_text(text.replace("num_segments: 10", "num_segments: 4"))
    (same,), (other,) = read_protocols(tmp_path / "coin.yaml"), read_protocols(tmp_path / "other.yaml")
    assert same.hash == PROTOCOLS["coin"].hash != other.hash
    assert len({one.hash for one in PROTOCOLS.values()}) == len(PROTOCOLS)


def test_names_paths_and_files(tmp_path):
    assert find_protocol(str(tmp_path)) is FILE
    with pytest.raises(AnnotationError, match=r"neither a data set nor a file 'k40': did you mean 'k400'\?"):
        find_protocol("k40")
    own = tmp_path / "own.yaml"
    own.write_text("{title: Own, version: 1, note: n, source: s, num_crops: 2}")
    with pytest.raises(VmrError, match=r"own\.yaml: not a protocol: protocol own: num_crops is 2: use 1 or 3"):
        find_protocol(str(own))
    own.write_text("{title: Own, version: 1, note: n, source: s, num_crop: 3}")
    with pytest.raises(VmrError, match=r"own\.yaml: not a protocol: .*num_crop"):
        find_protocol(str(own))
    own.write_text("{title: Own, version: 1, note: n, source: s, variants: {a: {}, b: {}}}")
    with pytest.raises(VmrError, match="holds one protocol"):
        find_protocol(str(own))
    own.write_text("{title: Own, version: 1, note: n, source: s, num_segments: 5}")
    assert (find_protocol(str(own)).name, find_protocol(str(own)).num_segments) == ("own", 5)


def test_classes_by_name_in_any_order_and_spelling():
    found = match_classes("set", ("Playing_Drums", "yoga"), 2, "model", ("yoga", "playing drums", "zumba"))
    assert (found.names, found.outputs) == (("yoga", "playing drums", "zumba"), (0, 1, 2))
    assert found.class_of == {0: 1, 1: 0}
    assert "all 3 of the classifier compete, the data set has 2" in found.notes[0]


def test_classes_by_number_must_be_as_many():
    assert match_classes("set", None, 3, "model", ("a", "b", "c")).class_of == {0: 0, 1: 1, 2: 2}
    for unnamed in (("class 0", "class 1"), ("0", "1"), ("LABEL_0", "LABEL_1")):
        assert match_classes("set", ("x", "y"), 2, "model", unnamed).names == ("x", "y")
    for named in (("class 1", "class 0"), ("1", "2"), ("label 0", "label 1")):  # not in their places, or other words
        with pytest.raises(VmrError, match="model does not know 2 of the classes"):
            match_classes("set", ("x", "y"), 2, "model", named)
    with pytest.raises(VmrError, match="set has 10 classes, but model has 400: use a classifier of these"):
        match_classes("set", None, 10, "model", tuple(map(str, range(400))))
    with pytest.raises(VmrError, match="model does not know 2 of the classes of set: 'b', 'c': use"):
        match_classes("set", ("a", "b", "c"), 3, "model", ("a", "x", "y"))


def test_names_that_stand_twice():
    """ImageNet has two cranes and two maillots; it is in order as long as no name is needed to tell them apart."""
    twice = ("crane", "dog", "Crane")
    assert match_classes("set", None, 3, "model", twice).class_of == {0: 0, 1: 1, 2: 2}
    assert match_classes("set", ("dog",), 1, "model", twice).class_of == {0: 1}
    with pytest.raises(VmrError, match="model has 2 classes 'crane', and names do not tell them apart"):
        match_classes("set", ("crane", "dog"), 2, "model", twice)
    codes = ("n01", "n02", "n03")
    with pytest.raises(VmrError, match="model does not know 3 of the classes of set"):
        match_classes("set", codes, 3, "model", twice)
    found = match_classes("set", codes, 3, "model", twice, published=True)
    assert (found.names, found.class_of) == (twice, {0: 0, 1: 1, 2: 2})
    assert found.notes == ("classes by number: the classifier has other names for all of them",)


def test_overlap_keeps_what_both_sets_have():
    sets = {"k400": ("dying hair", "yoga", "zumba"), "k600": ("dyeing hair", "Yoga", "abseiling", "zumba")}
    for model in ("k400", "k600"):
        found = match_classes("k600", sets["k600"], 4, model, sets[model], overlap=sets["k400"])
        assert found.names == ("Yoga", "zumba") and found.class_of == {1: 0, 3: 1}
        assert [sets[model][output].lower() for output in found.outputs] == ["yoga", "zumba"]
        assert found.notes == ("2 of 4 classes are in both sets, and only they compete",)
    with pytest.raises(VmrError, match="no class has the name of a class of the other set"):
        match_classes("k600", sets["k600"], 4, "k600", sets["k600"], overlap=("x",))
    with pytest.raises(VmrError, match="the classes of this classifier have no names"):
        match_classes("k600", sets["k600"], 4, "model", ("0", "1", "2", "3"), overlap=sets["k400"])


def test_the_list_of_a_protocol_is_found_and_checked(tmp_path):
    """UCF101 has three test lists, an overlap needs the names of the other set, Breakfast has ten classes."""
    for number in (1, 2, 3):
        (tmp_path / f"testlist0{number}.txt").write_text(f"Yoga/v_Yoga_g0{number}.avi\n")
    (tmp_path / "classInd.txt").write_text("1 Archery\n2 Yoga\n")
    (tmp_path / "Yoga").mkdir()
    for number in (1, 2, 3):
        (tmp_path / "Yoga" / f"v_Yoga_g0{number}.avi").touch()
    for name, number in (("ucf101", 1), ("ucf101-split3", 3)):
        data = load_labelled(name, data_dir=tmp_path)
        assert [(item.id, item.label) for item in data.labels.items] == [(f"Yoga/v_Yoga_g0{number}.avi", 1)]
        assert (data.num_classes, data.labels.name, data.protocol.num_classes) == (2, name, 101)
    kinetics = tmp_path / "kinetics"
    (kinetics / "val" / "yoga").mkdir(parents=True)
    (kinetics / "val" / "yoga" / "a.mp4").touch()
    with pytest.raises(AnnotationError, match=r"k400_classes\.txt: no such file: k600-overlap-k400 needs the names"):
        load_labelled("k600-overlap-k400", data_dir=kinetics)
    (kinetics / "k400_classes.txt").write_text("zumba\nyoga\n")
    assert load_labelled("k600-overlap-k400", data_dir=kinetics).overlap == ("zumba", "yoga")
    with pytest.raises(VmrError, match="k600 has no overlapping classes: leave out overlap_classes"):
        load_labelled("k600", data_dir=kinetics, overlap_classes=kinetics / "k400_classes.txt")
    (kinetics / "numbers.csv").write_text("val/yoga/a.mp4,3\n")
    data = load_labelled(kinetics / "numbers.csv")
    assert (data.labels.classes, data.num_classes, data.protocol) == (None, 4, FILE)
