"""The estimates of re-ranking: batches, FLOPs as PyTorch counts them, and memory."""

import re
import subprocess
import sys

import numpy as np
import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.models import make_encoder, make_video, tiny_model
from vmr.errors import VmrError
from vmr.memory import format_bytes, parse_bytes
from vmr.models.encoder import MatchingSizes
from vmr.retrieval.reranking import plan as rerank_plan
from vmr.retrieval.reranking.candidates import Candidates
from vmr.retrieval.reranking.plan import (
    SCRATCH_BYTES,
    batches,
    estimate,
    make_plan,
    match_flops,
    measure_speed,
    projection_flops,
    text_flops,
)

MIB = 2**20
BASE = MatchingSizes(1568, 576, 768, 3072, 9, 3)  # VideoMamba-M on 8 frames of 224 px, BERT base
TEXTS = ["a dog", "a very long caption about a dog", "a cat sleeps", "two birds", "a dog runs after a cat"]


@pytest.fixture(scope="module")
def matcher():
    return make_encoder(tiny_model())


def lengths_of(*lengths):
    return np.array(lengths, np.int64)


def test_batches_are_of_like_lengths():
    parts = batches(lengths_of(4, 9, 5, 4, 30), tokens_at_once=12)
    # 30 alone, as it is longer; 9 alone, 2 * 9 > 12; 5 with one of 4 makes 2 * 5; the other 4
    assert [part.tolist() for part in parts] == [[4], [1], [2, 0], [3]]
    assert [len(part) for part in batches(np.full(130, 2), 10_000)] == [64, 64, 2]
    assert batches(lengths_of(), 12) == []


def test_sizes_are_the_models(matcher):
    # 2 frames of 2 x 2 patches of 16 pixels; 2 of 3 layers read text alone
    assert matcher.matching_sizes == MatchingSizes(8, 32, 32, 64, 2, 1)
    assert matcher.video_tokens(make_video(1)).shape[1:] == (8, 32)
    assert matcher.text_lengths(["a dog", "two dogs run", ""]) == [4, 5, 2]  # with [CLS] and [SEP]
    assert matcher.with_text_limit(4).text_lengths(["two dogs run"]) == [4]


def test_flops_worked_by_hand():
    sizes = MatchingSizes(
        num_video_tokens=5, video_width=3, text_width=2, feed_forward=7, num_text_layers=2, num_fusion_layers=1
    )
    # a layer on 4 tokens: 4 projections 4*(2*4*2*2) = 128, scores and mixing 2*(2*4*4*2) = 128, two products of
    # the feed-forward part 2*(2*4*2*7) = 224: 480
    assert text_flops(sizes, 4) == 2 * 480
    # keys and values of 5 tokens: 2 * (2*5*3*2) = 120
    assert projection_flops(sizes) == 120
    # the layer, its query and output 2 * (2*4*2*2) = 64, scores and mixing with the video 2 * (2*4*5*2) = 160, and the
    # head 2*2*2 = 8
    assert match_flops(sizes, 4) == 480 + 64 + 160 + 8


def count_flops(work):
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # fused attention is not counted
        work()
    return counter.get_total_flops()


def test_flops_are_those_that_pytorch_counts(matcher):
    sizes, lengths = matcher.matching_sizes, matcher.text_lengths(TEXTS)
    longest, video_tokens = max(lengths), matcher.video_tokens(make_video(1))
    assert len(set(lengths)) > 2  # so that padding counts
    read = matcher.read_texts(TEXTS)
    assert count_flops(lambda: matcher.read_texts(TEXTS)) == len(TEXTS) * text_flops(sizes, longest)
    counted = count_flops(lambda: matcher.match_batches(video_tokens, [read]))
    assert counted == projection_flops(sizes) + len(TEXTS) * match_flops(sizes, longest)


def test_an_estimate_is_a_bound(matcher):
    few = TEXTS[:3]
    bound = estimate(matcher, few, 3, k=1)
    assert bound.num_pairs == 6  # 3 texts ask for a video each, and 3 videos for a text each
    assert estimate(matcher, few, 3, k=9).num_pairs == 9  # all
    # text 0 prefers video 0, text 1 video 1, text 2 video 1; video 0 prefers text 0, video 1 text 2, video 2 text 0
    scores = np.array([[0.9, 0.1, 0.8], [0.2, 0.7, 0.1], [0.3, 0.8, 0.2]], np.float32)
    assert Candidates(scores, 1).num_pairs == 4  # (0, 0), (1, 1), (2, 1) and (0, 2), which the video alone asks for
    # 4 + 9 + 5 tokens of 32 float32, and a float32 for every pair
    assert bound.disk_bytes == 4 * (matcher.text_lengths(few)[1] + 4 + 5) * 32 + 4 * 6


def test_an_estimate_worked_by_hand(matcher):
    assert matcher.text_lengths(TEXTS) == [4, 10, 5, 4, 8]
    # a text layer on L tokens of width 32 costs L * (8*32*32 + 4*L*32 + 4*32*64) = L * (16384 + 128 L), and there are
    # two; a pair costs L * (16384 + 128 L + 4*32*32 + 4*8*32) + 4*32 = L * (21504 + 128 L) + 128
    reading = 5 * 2 * 10 * (16384 + 128 * 10)  # one batch of five texts, as long as the longest
    pairs = [88_192, 227_968, 110_848, 88_192, 180_352]  # of 4, 10, 5, 4 and 8 tokens
    keys_and_values = 6 * 4 * 8 * 32 * 32  # of 6 videos
    found = estimate(matcher, TEXTS, 6, k=2, flops_per_second=1e6)
    # every text asks for 2 videos, and every video for 2 texts, at worst for the longest
    assert found.num_pairs == 5 * 2 + 6 * 2
    assert found.flops == reading + keys_and_values + 2 * sum(pairs) + 6 * (227_968 + 180_352)
    assert found.seconds == found.flops / 1e6
    assert found.disk_bytes == 4 * (31 * 32 + 22)  # 31 tokens of 32 float32, and 22 logits
    assert estimate(matcher, TEXTS, 6, k=9).flops == reading + keys_and_values + 6 * sum(pairs)  # all pairs


def test_an_estimate_keeps_to_the_memory_that_is_allowed(matcher, monkeypatch):
    monkeypatch.setattr(rerank_plan, "resident_bytes", lambda: 500 * MIB)
    roomy = estimate(matcher, TEXTS, 3, k=1)
    assert roomy.memory_bytes > 500 * MIB + SCRATCH_BYTES
    # a token takes (2*64 + 8*32) * 4 = 1536 bytes: with a byte less than enough, 1024 tokens instead of 2048
    tight = estimate(matcher, TEXTS, 3, k=1, memory_bytes=roomy.memory_bytes - 1)
    assert tight.memory_bytes == roomy.memory_bytes - 1024 * 1536
    with pytest.raises(VmrError, match="does not fit into 1 MiB"):
        estimate(matcher, TEXTS, 3, k=1, memory_bytes=MIB)


@pytest.mark.parametrize(("tokens_at_once", "num_texts"), [(2048, 64), (40, 2), (10, 1)])
def test_speed_is_the_work_of_a_batch_by_the_clock(matcher, monkeypatch, tokens_at_once, num_texts):
    (length,) = matcher.text_lengths(["a person is playing the guitar and singing a song for a friend"])
    assert length == 15  # 64 such texts are a batch of at most 2048 tokens, and two are one of 40
    ticks = iter([10.0, 12.5])
    monkeypatch.setattr(rerank_plan.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(rerank_plan, "TOKENS_AT_ONCE", tokens_at_once)
    sizes = matcher.matching_sizes
    assert measure_speed(matcher) == (projection_flops(sizes) + num_texts * match_flops(sizes, length)) / 2.5


def test_seconds_are_of_the_speed_given(matcher):
    assert estimate(matcher, TEXTS, 3, k=1).seconds is None
    one = estimate(matcher, TEXTS, 3, k=1, flops_per_second=1e6)
    assert one.seconds == pytest.approx(one.flops / 1e6)
    assert 1e5 < measure_speed(matcher) < 1e15


def test_the_largest_batch_that_fits():
    lengths = np.full(200, 24)
    roomy = make_plan(BASE, lengths, 200, None, 500 * MIB)
    assert roomy.tokens_at_once == 2048
    assert make_plan(BASE, lengths, 200, roomy.memory_bytes, 500 * MIB) == roomy
    tight = make_plan(BASE, lengths, 200, roomy.memory_bytes - 1, 500 * MIB)
    # a token: (2 * 3072 + 8 * 768) * 4 bytes = 48 KiB, and 1024 tokens fewer
    assert tight.tokens_at_once == 1024
    assert roomy.memory_bytes - tight.memory_bytes == 1024 * 48 * 1024
    # the rest: tokens twice, 2 * 1568 * 576, keys and values of 3 layers and one more, 8 * 1568 * 768, in 4 bytes each,
    # and 14 bytes for every pair
    fixed = 4 * (2 * 1568 * 576 + 8 * 1568 * 768) + 14 * 200 * 200
    assert tight.memory_bytes == 500 * MIB + SCRATCH_BYTES + fixed + 1024 * 48 * 1024


def test_a_long_text_is_a_batch():
    assert make_plan(BASE, lengths_of(5000), 1, None, 0).tokens_at_once == 5000
    least = make_plan(BASE, lengths_of(30, 4), 1, 2**40, 0)
    assert least.tokens_at_once == 2048


def test_too_little_memory_says_how_much_would_do():
    lengths = lengths_of(30, 8)
    line = r"2 texts and 10 videos does not fit into 600 MiB: it needs at least (\d+ MiB), of which 500 MiB are in use"
    with pytest.raises(VmrError, match=line) as caught:
        make_plan(BASE, lengths, 10, 600 * MIB, 500 * MIB)
    found = re.search(line, str(caught.value))
    assert found is not None
    least = parse_bytes(found[1])
    assert make_plan(BASE, lengths, 10, least, 500 * MIB).tokens_at_once in (30, 32)  # said in whole MiB, rounded up
    with pytest.raises(VmrError, match="at least"):
        make_plan(BASE, lengths, 10, least - MIB, 500 * MIB)


def test_sizes_are_written_as_people_do():
    assert [parse_bytes(text) for text in ("4GiB", "800 MB", "1.5kib", "1e9")] == [4 * 2**30, 8 * 10**8, 1536, 10**9]
    assert (format_bytes(3 * 2**29), format_bytes(800 * MIB - 5)) == ("1.50 GiB", "800 MiB")
    for text in ("", "lots", "4 GiBs", "1.2.3 GiB", "-1GiB"):
        with pytest.raises(VmrError, match="is no amount of memory"):
            parse_bytes(text)


def test_what_is_resident_grows_with_what_is_written():
    # in a process of its own, which has no memory left over from earlier work
    script = (
        "import numpy as np\n"
        "from vmr.memory import resident_bytes\n"
        "before = resident_bytes()\n"
        "block = np.ones(64 * 2**20, np.uint8)\n"
        "print(resident_bytes() - before)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 60 * MIB < int(result.stdout) < 80 * MIB
