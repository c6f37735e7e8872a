"""Embedding with a cache: known videos are neither decoded nor embedded again, and their features are the same."""

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models import Counting, make_encoder, tiny_model
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.pool import DecodePool
from vmr.data.decoding.segments import FrameSpec
from vmr.errors import ModelError, VideoError, VmrError
from vmr.eval.controls import CONTROLS, WithoutMotion
from vmr.files import sha256_of
from vmr.models.encoder import Matcher, VideoFeatures
from vmr.models.families.video_text import VideoTextEncoder
from vmr.retrieval import embed
from vmr.retrieval.feature_cache import ARRAYS, FeatureCache
from vmr.retrieval.frames import frame_spec, read_video
from vmr.retrieval.segments import FixedWindows, window_segmenter
from vmr.retrieval.texts import embed_texts

ONE_WORKER = DecodeOptions(num_workers=1)
"""Starting a second takes longer than it saves with these three videos; `test_decode_pool.py` tests several."""

LONG_AGO = 1_000_000_000


@pytest.fixture(scope="module")
def encoder() -> VideoTextEncoder:
    return make_encoder(tiny_model())


def embed_videos(*arguments, **options):
    return embed.embed_videos(*arguments, **{"decode": ONE_WORKER, **options})


def embed_videos_with(*arguments, **options):
    return embed.embed_videos_with(*arguments, **{"decode": ONE_WORKER, **options})


@pytest.fixture
def videos(footage: Path, tmp_path: Path) -> list[Path]:
    folder = Path(shutil.copytree(footage, tmp_path / "videos"))
    for path in folder.iterdir():
        os.utime(path, (LONG_AGO, LONG_AGO))
    return sorted(folder.glob("*.mp4"))


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


def overwrite(path: Path) -> None:
    """Destroy a video so that only reading it shows the damage: same inode, size and time."""
    size = path.stat().st_size
    with path.open("rb+") as file:
        file.write(b"\0" * size)
    os.utime(path, (LONG_AGO, LONG_AGO))


def assert_equal(ours, expected) -> None:
    assert [video.path for video in ours.videos] == [video.path for video in expected.videos]
    for one, other in zip(ours.videos, expected.videos, strict=True):
        assert one.spans == other.spans and np.array_equal(one.vectors, other.vectors)


@pytest.mark.parametrize("window_s", [None, 4.0])
def test_a_second_time_no_video_is_read(videos, encoder, cache, window_s):
    frames, windows = frame_spec(encoder), window_segmenter(window_s)
    plain = embed_videos(videos, encoder, frames, windows)
    assert len(plain.videos[0].spans) > 1 or window_s is None
    assert_equal(embed_videos(videos, encoder, frames, windows, cache=cache), plain)
    for path in videos:
        overwrite(path)
    assert_equal(embed_videos(videos, encoder, frames, windows, cache=FeatureCache(cache.folder)), plain)
    assert len(embed_videos(videos, encoder, frames, windows).failures) == 3  # they are really gone


def test_a_copy_elsewhere_is_known_and_a_changed_video_is_not(videos, encoder, cache, tmp_path):
    plain = embed_videos(videos, encoder, cache=cache)
    counting = Counting(encoder)
    moved = [Path(shutil.move(path, tmp_path / f"renamed-{path.name}")) for path in videos]
    again = embed_videos(moved, counting, cache=cache)
    assert counting.count == 0
    assert [np.array_equal(a.vectors, b.vectors) for a, b in zip(again.videos, plain.videos, strict=True)] == [True] * 3
    shutil.copy(moved[0], moved[1])
    changed = embed_videos(moved, counting, cache=cache)
    assert np.array_equal(changed.videos[1].vectors, plain.videos[0].vectors)


def test_other_frames_and_other_encoders_are_other_features(videos, encoder, cache):
    embed_videos(videos[:1], encoder, cache=cache)
    counting = Counting(encoder)
    embed_videos(videos[:1], counting, frame_spec(encoder, sampling="trimmed1"), cache=cache)
    assert counting.count == 1
    embed_videos(videos[:1], counting, frame_spec(encoder, num_frames=1), cache=cache)
    assert counting.count == 2
    embed_videos(videos[:1], counting, cache=cache)
    assert counting.count == 2
    control = embed_videos(videos[:1], WithoutMotion(counting, "static"), cache=cache)
    assert counting.count == 3
    video = read_video(videos[0], encoder)[:, [1, 1]]  # the middle one of 2 frames, twice
    assert np.array_equal(control.videos[0].vectors, encoder.encode_video(video).numpy())


def test_stopped_in_the_middle_what_was_done_is_kept(videos, encoder, cache):
    with pytest.raises(KeyboardInterrupt):
        embed_videos(videos, Counting(encoder, stop_at=3), cache=cache, tokens=True)
    assert cache.sizes().num_videos_with_tokens == 2
    rest = Counting(encoder)
    assert_equal(embed_videos(videos, rest, cache=cache, tokens=True), embed_videos(videos, encoder))
    assert rest.count == 1


KILLED = """
import os, signal, sys
from tests.models import Counting, make_encoder, tiny_model
from vmr.data.decoding.options import DecodeOptions
from vmr.retrieval.embed import embed_videos
from vmr.retrieval.feature_cache import FeatureCache
encoder = Counting(make_encoder(tiny_model()), stop_at=3)
try:
    decode = DecodeOptions(num_workers=1)
    embed_videos(sys.argv[2:], encoder, decode=decode, cache=FeatureCache(sys.argv[1]), tokens=True)
finally:
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_in_the_middle_what_was_done_is_kept(videos, encoder, cache):
    command = [sys.executable, "-c", KILLED, str(cache.folder), *map(str, videos)]
    assert subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode == -9
    assert cache.sizes().num_videos_with_tokens == 2
    rest = Counting(encoder)
    assert_equal(embed_videos(videos, rest, cache=cache, tokens=True), embed_videos(videos, encoder))
    assert rest.count == 1


def test_failures_are_named_and_not_kept(videos, encoder, cache):
    content = videos[1].read_bytes()
    videos[1].write_bytes(b"\0" * 1000)
    paths = [*videos, videos[0].parent / "gone.mp4"]
    for _ in range(2):
        embedding = embed_videos(paths, encoder, cache=cache)
        assert [Path(failure.path).name for failure in embedding.failures] == ["bikes.mp4", "gone.mp4"]
        assert len(embedding.videos) == 2
    videos[1].write_bytes(content)
    assert_equal(embed_videos(videos, encoder, cache=cache), embed_videos(videos, encoder))


def test_vectors_that_are_not_finite_are_not_kept(videos, cache):
    model = tiny_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(ModelError, match="makes vectors that are not finite"):
        embed_videos(videos, make_encoder(model), cache=cache)
    assert cache.sizes().num_videos == 0


def test_a_video_that_changes_while_it_is_decoded_is_not_kept(videos, encoder, cache):
    class Late(Counting):
        def video_features(self, video: Tensor) -> VideoFeatures:
            os.utime(videos[0])
            return super().video_features(video)

    assert len(embed_videos(videos[:1], Late(encoder), cache=cache).videos) == 1
    assert cache.sizes().num_videos == 0


def test_tokens_come_with_the_vectors(videos, encoder, cache):
    counting = Counting(encoder)
    embedding = embed_videos(videos, counting, cache=cache, tokens=True)
    assert counting.count == 3
    assert_equal(embedding, embed_videos(videos, encoder))
    expected = {path: encoder.video_tokens(read_video(path, encoder)) for path in videos}
    for path in videos:
        overwrite(path)
    again = embed_videos(videos, counting, cache=cache, tokens=True)
    for store in (embedding.tokens, again.tokens):
        for path in videos:
            tokens = store.tokens(path)
            assert tokens.shape == (1, 8, 32) and torch.equal(tokens, expected[path])
    assert counting.count == 3
    assert embed_videos(videos, counting, cache=cache).tokens is None


def test_tokens_are_added_to_features_that_lack_them(videos, encoder, cache):
    embed_videos(videos, encoder, cache=cache)
    embedding = embed_videos(videos, encoder, cache=cache, tokens=True)
    assert torch.equal(embedding.tokens.tokens(videos[0]), encoder.video_tokens(read_video(videos[0], encoder)))
    assert cache.sizes().num_videos_with_tokens == 3


def test_tokens_of_windows(videos, encoder, cache):
    embedding = embed_videos(videos[1:2], encoder, segmenter=FixedWindows(4.0, 2.0), cache=cache, tokens=True)
    assert embedding.tokens.tokens(videos[1]).shape == (len(embedding.videos[0].spans), 8, 32)


def test_without_a_cache_tokens_go_with_the_result(videos, encoder, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    embedding = embed_videos(videos, encoder, tokens=True)
    (folder,) = tmp_path.glob("vmr-features-*")
    assert torch.equal(embedding.tokens.tokens(videos[2]), encoder.video_tokens(read_video(videos[2], encoder)))
    del embedding
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize("damage", ["flip", "gone"])
def test_damaged_tokens_are_made_again(videos, encoder, cache, damage):
    counting = Counting(encoder)
    store = embed_videos(videos[:1], counting, cache=cache, tokens=True).tokens
    expected = encoder.video_tokens(read_video(videos[0], encoder))
    (file,) = (cache.folder / ARRAYS).iterdir()
    if damage == "flip":
        file.write_bytes(file.read_bytes()[:-1] + b"\1")
    else:
        file.unlink()
    assert torch.equal(store.tokens(videos[0]), expected)
    assert counting.count == 2
    assert sha256_of(file) == file.stem
    assert torch.equal(store.tokens(videos[0]), expected)
    assert counting.count == 2


def test_tokens_that_cannot_be_made_again_name_the_video(videos, encoder, cache):
    store = embed_videos(videos, encoder, cache=cache, tokens=True).tokens
    cache.clear()
    videos[0].unlink()
    with pytest.raises(VideoError, match=r"bigbuckbunny\.mp4: no such file"):
        store.tokens(videos[0])
    shutil.copy(videos[2], videos[1])
    with pytest.raises(VideoError, match=r"bikes\.mp4: has changed since it was embedded"):
        store.tokens(videos[1])
    with pytest.raises(VideoError, match="never seen"):
        store.tokens("never seen")


def test_one_decoding_serves_an_encoder_and_its_controls(videos, encoder, cache, monkeypatch):
    encoders = [encoder, *(WithoutMotion(encoder, control) for control in CONTROLS)]
    expected = [embed_videos(videos, one) for one in encoders]
    broken = videos[0].parent / "broken.mp4"
    broken.write_bytes(b"\0" * 100)
    embed_videos(videos[:2], encoder, cache=cache)  # of some encoders some videos are known already
    embed_videos(videos[1:], encoders[1], cache=cache)
    decode, decoded = DecodePool.decode, []
    monkeypatch.setattr(DecodePool, "decode", lambda pool, paths: decode(pool, decoded.append(paths) or paths))
    for _ in range(2):
        embeddings = embed_videos_with(encoders, [broken, *videos], cache=cache, tokens=True)
        for ours, alone in zip(embeddings, expected, strict=True):
            assert_equal(ours, alone)
            assert [failure.path for failure in ours.failures] == [str(broken)]
        assert [one.tokens is not None for one in embeddings] == [True, False, False]
    assert decoded == [[str(broken), *map(str, videos)], [str(broken)]]
    assert not np.array_equal(expected[0].videos[0].vectors, expected[1].videos[0].vectors)


def test_a_video_that_fails_one_encoder_fails_all(videos, encoder, cache):
    embed_videos(videos, encoder, cache=cache)
    overwrite(videos[1])
    embeddings = embed_videos_with([encoder, WithoutMotion(encoder, "static")], videos, cache=cache)
    for embedding in embeddings:
        assert [failure.path for failure in embedding.failures] == [str(videos[1])]
        assert [video.path for video in embedding.videos] == [str(videos[0]), str(videos[2])]


def test_what_cannot_be_asked(videos, encoder, offline):
    assert isinstance(encoder, Matcher) and not isinstance(offline, Matcher)
    with pytest.raises(VmrError, match="offline cannot match videos and texts token by token"):
        embed_videos(videos, offline, tokens=True)
    with pytest.raises(VmrError, match="tiny and offline want different frames"):
        embed_videos_with([encoder, offline], videos)


def test_frames_of_a_protocol(encoder):
    assert frame_spec(encoder) == frame_spec(encoder, sampling="middle", num_frames=2)
    spec = frame_spec(encoder, sampling="trimmed30", num_frames=1)
    assert spec == FrameSpec(1, 32, "upstream", sampling="trimmed30")


def test_texts_are_embedded_once(encoder, cache, monkeypatch):
    texts = ["a dog", "two cats sleep", "a dog", "a much longer caption about a dog", "two cats sleep"]
    expected = encoder.encode_text(texts).numpy()
    monkeypatch.setattr("vmr.retrieval.texts.TEXTS_AT_ONCE", 2)
    vectors = embed_texts(texts, encoder, cache=cache)
    np.testing.assert_allclose(vectors, expected, atol=1e-6, rtol=0)
    assert np.array_equal(vectors[0], vectors[2]) and np.array_equal(vectors[1], vectors[4])
    assert np.array_equal(vectors, embed_texts(texts, encoder))

    class Mute(Counting):
        def encode_text(self, texts):
            raise AssertionError("these texts are known")

    assert np.array_equal(embed_texts(texts, Mute(encoder), cache=cache), vectors)
    assert embed_texts([], encoder, cache=cache).shape == (0, 16)
    with pytest.raises(ModelError, match="expected a list of texts"):
        embed_texts("a dog", encoder)


def test_texts_cut_shorter_are_other_texts(encoder, cache):
    texts = ["two dogs run away", "two dogs sleep"]
    whole = embed_texts(texts, encoder, cache=cache)
    cut = embed_texts(texts, encoder.with_text_limit(4), cache=cache)  # [CLS], two words, [SEP]
    assert np.array_equal(cut[0], cut[1]) and not np.array_equal(whole[0], whole[1])
    assert cache.sizes().num_texts == 2
