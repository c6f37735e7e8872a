"""The split of the synthetic benchmark keeps test pairs out of training, and training clips depend on the seed only."""

import hashlib
import itertools
import pickle
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from vmr.data.shapes.drawing import render
from vmr.data.shapes.split import PARTS, TEST_CLIPS, held_out_scenes, held_out_seed, split_pairs, train_pairs
from vmr.data.shapes.world import KINDS, RELATIONS
from vmr.data.sources.shapes import ShapesSource
from vmr.data.sources.source import Pair
from vmr.errors import VmrError


def unordered(pairs):
    return {frozenset(pair) for pair in pairs.tolist()}


def objects_of(scene):
    """The two objects of a scene, whatever their relation and order."""
    return frozenset((astuple(scene.first), astuple(scene.second)))


def changed_words(one, other):
    assert len(one.split()) == len(other.split())
    return [pair for pair in zip(one.split(), other.split(), strict=True) if pair[0] != pair[1]]


# The split


def test_every_pair_of_objects_is_in_one_place():
    split = split_pairs()
    assert (len(split.train), len(split.test), len(split.twins)) == (16_836, 1000, 500)
    everything = unordered(np.concatenate([split.train, split.test, split.twins]))
    assert everything == {frozenset(pair) for pair in itertools.combinations(range(192), 2)}  # 192 * 191 / 2 = 18 336


@pytest.mark.parametrize("kind", KINDS)
def test_every_object_is_trained_on_and_no_test_pair_is(kind):
    trained = train_pairs(kind)
    assert set(trained.ravel().tolist()) == set(range(192))
    held_out = split_pairs()
    assert not unordered(trained) & unordered(np.concatenate([held_out.test, held_out.twins]))


def test_drawn_scenes_are_none_of_the_test():
    source = ShapesSource(KINDS, num_clips=4000, seed=1)
    trained = {(source.part(index), objects_of(source.scene(index))) for index in range(4000)}
    tested = {(kind, objects_of(scene)) for kind in KINDS for scene in held_out_scenes(kind)}
    tested |= {("pairs", objects_of(scene)) for scene in held_out_scenes("twins")}
    assert len(trained) > 3500 and len(tested) == 1000 + 300 / 2 + 300 + 300 / 2 + 500
    assert not trained & tested


@pytest.mark.parametrize("part", PARTS)
def test_captions_of_a_test_part_are_all_different(part):
    scenes = held_out_scenes(part)
    assert len(scenes) == TEST_CLIPS[part]
    # Neither of the two sentences of a scene describes another.
    assert len({caption for scene in scenes for caption in scene.captions}) == 2 * len(scenes)
    if part not in ("pairs", "twins"):  # objects that look alike could not be told apart once they have met
        assert all((s.first.color, s.first.shape) != (s.second.color, s.second.shape) for s in scenes)


def test_twins_differ_in_one_word():
    captions = [scene.captions[0] for scene in held_out_scenes("twins")]
    directions, speeds = {"left", "right", "up", "down"}, {"slowly", "quickly"}
    for number in range(0, 500, 2):
        (words,) = changed_words(captions[number], captions[number + 1])
        assert set(words) <= (speeds if number // 2 % 2 else directions)


def test_neighbours_in_order_and_collision_differ_in_what_joins_them():
    for part, relations in (("order", ("before", "after")), ("collision", ("bounce", "pass"))):
        scenes = held_out_scenes(part)
        for one, other in zip(scenes[::2], scenes[1::2], strict=True):
            assert (one.first, one.second) == (other.first, other.second)
            assert (one.relation, other.relation) == relations


def test_test_pairs_are_as_random_pairs_are():
    """Two objects share as many properties as random objects do: none is rare or frequent in the main test."""
    scenes = held_out_scenes("pairs")
    for attribute, num_words in (("color", 6), ("shape", 4), ("direction", 4), ("manner", 2)):
        same = np.mean([getattr(scene.first, attribute) == getattr(scene.second, attribute) for scene in scenes])
        expected = (192 / num_words - 1) / 191  # of the 191 other objects
        assert same == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 1000))
        words = [getattr(thing, attribute) for scene in scenes for thing in (scene.first, scene.second)]
        counts = np.array([words.count(word) for word in set(words)])
        assert len(counts) == num_words
        assert counts == pytest.approx(2000 / num_words, abs=4 * np.sqrt(2000 / num_words))


def test_the_benchmark_is_the_published_one():
    """Scores are comparable only if sentences and pixels do not change; if they must, raise VERSION and score again."""
    digest = hashlib.sha256()
    for part in PARTS:
        for number, scene in enumerate(held_out_scenes(part)):
            digest.update(scene.captions[0].encode())
            if number % 50 == 0:
                digest.update(render(scene, held_out_seed(part, number)).tobytes())
    assert digest.hexdigest()[:16] == "b9e8c32f071e5249"


# The source


def test_clips_follow_from_seed_and_index():
    source, again, other = (ShapesSource(KINDS, num_clips=40, seed=seed) for seed in (3, 3, 4))
    assert (len(source), source.num_ids, source.name, source.media) == (40, 40, "shapes", "video")
    pairs, same, different = (
        [each.pair(index, np.random.default_rng(0)) for index in range(40)] for each in (source, again, other)
    )
    assert [pair.id for pair in pairs] == list(range(40))
    assert len({pair.name for pair in pairs}) == 40
    assert [pair.caption for pair in pairs] == [pair.caption for pair in same]
    assert [pair.caption for pair in pairs] != [pair.caption for pair in different]
    for pair, twin in zip(pairs[:8], same[:8], strict=True):
        assert np.array_equal(pair.make(8, 64), twin.make(8, 64))
    assert pairs[0].make(4, 32).shape == (4, 3, 32, 32)
    assert not np.array_equal(pairs[0].make(8, 64), pairs[4].make(8, 64))


def test_the_generator_chooses_who_is_mentioned_first_and_nothing_else():
    source = ShapesSource(("order",), num_clips=5)
    drawn = [source.pair(2, np.random.default_rng(seed)) for seed in range(20)]
    assert {pair.caption for pair in drawn} == set(source.scene(2).captions)
    assert np.array_equal(drawn[0].make(8, 64), drawn[1].make(8, 64))


@pytest.mark.parametrize(
    ("difference", "kept"), [("motion", ("color", "shape")), ("shape", ("color", "direction", "manner"))]
)
def test_a_group_differs_in_nothing_but_the_difference(difference, kept):
    source = ShapesSource(num_clips=40, group=4, difference=difference)
    alike = [
        sorted(tuple(getattr(thing, word) for word in kept) for thing in (scene.first, scene.second))
        for scene in map(source.scene, range(40))
    ]
    assert all(alike[index] == alike[index - index % 4] for index in range(40))
    assert len({str(each) for each in alike}) > 5
    scenes = [objects_of(source.scene(index)) for index in range(40)]
    assert all(len(set(scenes[start : start + 4])) == 4 for start in range(0, 40, 4))


@pytest.mark.parametrize("part", ["order", "collision"])
def test_the_two_relations_of_the_same_objects(part):
    source = ShapesSource((part,), num_clips=40, group=2, difference="relation")
    scenes = [source.scene(index) for index in range(40)]
    assert [scene.relation for scene in scenes] == [*RELATIONS[part]] * 20
    assert all(one.first == other.first and one.second == other.second for one, other in batched(scenes))
    assert len({objects_of(scene) for scene in scenes}) > 10


def batched(scenes):
    return zip(scenes[::2], scenes[1::2], strict=True)


def test_parts_come_in_turn_and_show_every_relation():
    source = ShapesSource(("collision", "order"), num_clips=100)
    assert [source.part(index) for index in range(4)] == ["collision", "order", "collision", "order"]
    for first, kind in enumerate(("collision", "order")):
        assert {source.scene(index).relation for index in range(first, 100, 2)} == set(RELATIONS[kind])


def test_a_pair_travels_to_another_process():
    pair = ShapesSource(seed=9).pair(7, np.random.default_rng(1))
    message = pickle.dumps(pair)
    assert len(message) < 1000
    assert np.array_equal(pickle.loads(message).make(8, 64), pair.make(8, 64))


def test_a_source_has_no_clip_past_its_end():
    with pytest.raises(IndexError, match="clip 3 of 3"):
        ShapesSource(num_clips=3).pair(3, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": ("twins",)}, "shapes has no training part 'twins': one of pairs, order, passage, collision"),
        ({"parts": ()}, "needs different training parts, got none"),
        ({"parts": ("order", "order")}, "needs different training parts, got order, order"),
        ({"num_clips": 0}, "num_clips of 1 or more and a seed of 0 or more, got 0 and 0"),
        ({"seed": -1}, "got 20000 and -1"),
        ({"group": 0}, "group of 1 or more"),
        ({"group": 3}, "group of 1 or more that divides num_clips, of one part, got 3"),
        ({"group": 2, "parts": ("pairs", "order")}, "of one part, got 2"),
        (
            {"group": 2, "difference": "color"},
            "shapes has no clips that differ in 'color': motion or shape or relation",
        ),
        (
            {"group": 4, "difference": "relation", "parts": ("order",)},
            "come in groups of 2, of order or collision, got 4",
        ),
        ({"group": 2, "difference": "relation"}, "come in groups of 2, of order or collision, got 2 of pairs"),
    ],
)
def test_a_source_that_cannot_be(options, message):
    with pytest.raises(VmrError, match=message):
        ShapesSource(**options)


def test_a_pair_has_a_file_or_a_way_to_make_it():
    assert Pair("a.mp4", 0, "a cat", path=Path("a.mp4")).make is None
    for both in ({}, {"path": Path("a.mp4"), "make": lambda num_frames, size: None}):
        with pytest.raises(VmrError, match=r"a\.mp4: a pair has either a file or a way to make its clip"):
            Pair("a.mp4", 0, "a cat", **both)
