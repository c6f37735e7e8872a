"""The views of real files: their pixels are those of `VideoReader`, and each frame is decoded once."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.video_matrix import HEIGHT, OPEN_GOP, PATCHES, RECIPES, WIDTH, Recipe, number_of, picture, write_video
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.resize import resize_bilinear, resize_pillow
from vmr.data.decoding.video import VideoReader
from vmr.data.decoding.worker_process import DecodeFailure
from vmr.data.views.decode import ViewItem, decode_views
from vmr.data.views.frame_folder import FrameFolder
from vmr.data.views.frame_rules import sparse_indices, view_indices
from vmr.data.views.spec import ViewSpec
from vmr.data.views.view_job import ViewJob, read_views, serve_views
from vmr.errors import VideoError

SPEC = ViewSpec(num_frames=4, size=HEIGHT, num_segments=3, num_crops=3)
MARGIN = WIDTH - HEIGHT  # pixels that a crop of 112 x 112 leaves out of 192 x 112


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("views")


@pytest.fixture(scope="module")
def film(folder):
    """60 pictures of 192 x 112, each with its number, 25 a second."""
    return str(write_video(folder / "film.mp4", RECIPES["h264_open_gop"]))


@pytest.fixture(scope="module")
def damaged(folder):
    """A film that ends early: 100 pictures are listed, and some of them are there."""
    made, cut = PATCHES["mp4_truncated"]
    assert made == "h264_index_first"
    recipe = Recipe(options=OPEN_GOP, num_frames=100, muxing={"movflags": "faststart"})
    return str(cut(write_video(folder / "whole.mp4", recipe), folder / "damaged.mp4"))


def numbers_in(views: np.ndarray, spec: ViewSpec = SPEC) -> list[list[int]]:
    """The numbers of the pictures of each segment: the first and the last crop together show all of a picture."""
    segments = views.reshape(spec.num_segments, 3, *views.shape[1:])
    whole = np.concatenate([segments[:, 0], segments[:, 2][..., HEIGHT - MARGIN :]], axis=-1)
    return [[number_of(frame) for frame in segment] for segment in whole]


def write_folder(folder, numbers, name="img_{:05}.jpg"):
    folder.mkdir()
    for number in numbers:
        Image.fromarray(picture(number)).save(folder / name.format(number), quality=95)
    return str(folder)


def test_views_show_the_frames_of_the_rule(film):
    views = read_views(film, SPEC)
    assert views.shape == (9, 4, 3, HEIGHT, HEIGHT)
    assert numbers_in(views) == view_indices(SPEC, 100).tolist()


def test_pixels_are_those_of_the_reader_resized_and_cropped(film):
    spec = ViewSpec(num_frames=5, size=64, num_segments=2, num_crops=3)
    with VideoReader(film) as video:
        frames = [video.frames_at(each.tolist()).transpose(0, 2, 3, 1) for each in view_indices(spec, 100)]
    scaled = [np.stack([resize_bilinear(frame, (64, 109)) for frame in segment]) for segment in frames]  # 109.7
    expected = [segment[:, :, left : left + 64].transpose(0, 3, 1, 2) for segment in scaled for left in (0, 22, 45)]
    assert np.array_equal(read_views(film, spec), expected)


def test_upright_film_is_cropped_along_its_height(folder):
    tall = write_video(folder / "tall.mp4", Recipe(num_frames=3, stored=lambda rgb: rgb.transpose(1, 0, 2)))
    views = read_views(str(tall), replace(SPEC, num_segments=1, num_frames=2))
    with VideoReader(tall) as video:
        rgb = video.frames_at(sparse_indices(2, 3).tolist())
    assert np.array_equal(views, [rgb[:, :, top : top + HEIGHT] for top in (0, 40, 80)])


def test_each_frame_is_decoded_once(film, monkeypatch):
    asked, pictures = [], VideoReader.pictures
    monkeypatch.setattr(VideoReader, "pictures", lambda video, some: asked.append(some) or pictures(video, some))
    spec = ViewSpec(num_frames=16, size=HEIGHT, num_segments=10, num_crops=3)  # more frames than the film has
    views = read_views(film, spec)
    assert numbers_in(views, spec) == view_indices(spec, 100).tolist()
    assert asked == [np.unique(view_indices(spec, 100)).tolist()]


def test_a_frame_in_several_segments_is_sent_once(film):
    spec = ViewSpec(num_frames=64, size=16, num_segments=2, num_crops=3)
    job = ViewJob(film, spec)
    (segment,) = serve_views(json.loads(json.dumps(job.request())), None)
    assert list(segment.numbers) == view_indices(spec, 100).reshape(-1).tolist()
    first = dict(zip(segment.numbers, segment.frames, strict=True))
    assert len(first) < len(segment.frames)
    assert all(frame is first[number] for number, frame in zip(segment.numbers, segment.frames, strict=True))
    assert job.accepts((128, *segment.frames[0].shape))


@pytest.mark.parametrize("shape", [(11, 3, 112, 192), (12, 4, 112, 192), (12, 3, 112, 3585), (12, 3, 113, 192)])
def test_frames_of_another_shape_are_not_accepted(shape):
    assert not ViewJob("a.mp4", SPEC).accepts(shape)
    assert not ViewJob("a.mp4", replace(SPEC, num_crops=1)).accepts((12, 3, 112, 192))


def test_only_the_centre_of_a_single_crop_is_kept(film):
    (segment,) = serve_views(ViewJob(film, replace(SPEC, num_crops=1)).request(), None)
    assert {frame.shape for frame in segment.frames} == {(3, HEIGHT, HEIGHT)}
    views = read_views(film, SPEC)
    assert np.array_equal(read_views(film, replace(SPEC, num_crops=1)), views[1::3])


def test_a_film_of_one_frame_repeats_it(folder):
    path = write_video(folder / "one.mp4", RECIPES["one_frame"])
    assert numbers_in(read_views(str(path), SPEC)) == [[0] * 4] * 3


@pytest.mark.parametrize("rule", ["sparse", "sthsth", "dense"])
def test_a_film_shorter_than_a_view_repeats_frames(folder, rule):
    path = write_video(folder / f"short-{rule}.mp4", replace(RECIPES["one_frame"], num_frames=3))
    spec = replace(SPEC, frames=rule, num_frames=8)
    assert numbers_in(read_views(str(path), spec), spec) == view_indices(spec, 3).tolist()


def test_a_part_of_a_film_at_a_variable_rate_is_taken_by_time(folder):
    """60 pictures, of which the first 30 are shown in 1.2 s, and the others from 2.2 s on."""
    path = write_video(folder / "vfr.mp4", RECIPES["h264_vfr"])
    with VideoReader(path) as video:
        shown = [int(np.searchsorted(video.timestamps_s, at_s, side="right")) - 1 for at_s in (0.5, 2.5)]
    assert shown == [12, 37]
    expected = [(12 + indices).tolist() for indices in view_indices(SPEC, 37 - 12 + 1)]
    assert numbers_in(read_views(str(path), SPEC, (0.5, 2.5))) == expected


@pytest.mark.parametrize("span", [(4.0, 5.0), (-1.0, 2.0), (2.0, 2.0), (3.0, 2.0)])
def test_a_part_that_the_film_has_not_is_refused(film, span):
    with pytest.raises(VideoError, match=r"no part from .* can be taken of its 4 s"):
        read_views(film, SPEC, span)


def test_views_of_a_damaged_film_count_the_frames_that_are_there(damaged):
    with VideoReader(damaged, count_frames=True) as video:
        num_frames = video.num_frames
    assert 40 < num_frames < 100
    assert numbers_in(read_views(damaged, SPEC)) == view_indices(SPEC, num_frames).tolist()


def test_a_picture_is_evaluated_as_images_are(tmp_path):
    Image.fromarray(picture(77)).save(tmp_path / "77.png")
    (view,) = read_views(str(tmp_path / "77.png"), ViewSpec(2, 56, resize="image"))
    scaled = resize_pillow(picture(77).transpose(2, 0, 1), (64, 109))  # int(56 / 0.875) and 109.7
    assert np.array_equal(view, [scaled[:, 4:60, 26:82]] * 2)  # 4 and round(26.5) = 26, half to even


def test_a_folder_of_pictures_is_a_video(tmp_path):
    path = write_folder(tmp_path / "frames", range(1, 21))
    spec = replace(SPEC, frames="sthsth", num_segments=2)
    (tmp_path / "frames" / "notes.txt").write_text("not a picture")
    assert numbers_in(read_views(path, spec), spec) == [[1, 6, 11, 16], [3, 8, 13, 18]]  # counted from 1


def test_a_folder_gives_frames_as_a_video_does(tmp_path):
    frames = FrameFolder(write_folder(tmp_path / "frames", range(7), "{}.png"))  # 10.png would come after 9.png
    assert (frames.num_frames, frames.height, frames.width) == (7, HEIGHT, WIDTH)
    taken = frames.frames_at([5, 2, 5])
    assert [number_of(frame) for frame in taken] == [5, 2, 5]
    assert np.array_equal(frames.frames_at([5, 2], crop=(8, 16, 30, 40)), taken[:2, :, 8:38, 16:56])
    assert [number_of(frame) for frame in frames.frames_at([3], (56, 96))] == [3]


@pytest.mark.parametrize(
    ("numbers", "name", "message"),
    [
        ([1, 2, 5, 6], "img_{:05}.jpg", "lacks pictures before img_00006.jpg: number 3, 4$"),
        ([9], "{}.png", r"lacks pictures before 9.png: number 1, 2, 3, 4, 5, \.\.\.$"),
        ([], "", "has no numbered pictures, such as img_00001.jpg"),
    ],
)
def test_a_folder_with_gaps_is_refused(tmp_path, numbers, name, message):
    with pytest.raises(VideoError, match=message):
        FrameFolder(write_folder(tmp_path / "frames", numbers, name))


def test_a_folder_with_odd_pictures_is_refused(tmp_path):
    path = write_folder(tmp_path / "frames", [1, 2, 3])
    with pytest.raises(VideoError, match="pictures have no times"):
        read_views(path, SPEC, (0.0, 1.0))
    Image.fromarray(picture(2)[:50]).save(tmp_path / "frames" / "img_00002.jpg")
    with pytest.raises(VideoError, match=r"img_00002\.jpg has 192 x 50 pixels, and the first picture 192 x 112"):
        read_views(path, SPEC)
    (tmp_path / "frames" / "img_00002.jpg").write_bytes(b"no picture")
    with pytest.raises(VideoError, match=r"img_00002\.jpg: not a picture"):
        read_views(path, SPEC)
    Image.fromarray(picture(2)).save(tmp_path / "frames" / "img_2.jpg")
    with pytest.raises(VideoError, match=r"two pictures number 2: img_00002\.jpg and img_2\.jpg"):
        read_views(path, SPEC)
    (tmp_path / "frames" / "img_2.jpg").rename(tmp_path / "frames" / "flow_00004.jpg")
    with pytest.raises(VideoError, match=r"several kinds, flow_\*\.jpg and img_\*\.jpg"):
        read_views(path, SPEC)


def test_many_files_come_in_order_with_what_was_noticed(film, damaged, tmp_path):
    frames = write_folder(tmp_path / "frames", range(1, 5))
    items = [
        ViewItem(film),
        ViewItem("no-such-file.mp4"),
        ViewItem(film, (1.0, 2.0)),
        ViewItem(damaged),
        ViewItem(frames),
        ViewItem(film, (9.0, 10.0)),
    ]
    given, found = zip(*decode_views(iter(items), SPEC, DecodeOptions(num_workers=2)), strict=True)
    assert list(given) == items
    for item, views in zip(items, found, strict=True):
        if not isinstance(views, DecodeFailure):
            assert np.array_equal(views.pixels, read_views(item.path, SPEC, item.span))
    assert found[1] == DecodeFailure("no-such-file.mp4", "no such file")
    assert found[5] == DecodeFailure(film, "no part from 9 to 10 s can be taken of its 4 s")
    assert [remark.kind for remark in found[3].remarks] == ["damage"]
    assert found[0].remarks == found[4].remarks == ()


def test_damage_is_a_failure_if_asked(damaged):
    ((_, failure),) = decode_views([ViewItem(damaged)], SPEC, DecodeOptions(num_workers=1, strict=True))
    assert failure.is_damage


def test_few_files_are_taken_in_advance(film):
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield ViewItem(film)

    views = decode_views(items(), SPEC, DecodeOptions(num_workers=1))
    next(views)
    views.close()
    assert len(taken) == 2
