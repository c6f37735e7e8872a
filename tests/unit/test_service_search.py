"""Searches and lists over HTTP, on a small index of real videos: what is answered, and what is refused."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import vmr
from tests.handmade import Handmade
from tests.models import make_encoder, tiny_model
from vmr.data.decoding.options import DecodeOptions
from vmr.retrieval.results import match_in_words
from vmr.retrieval.segments import SegmentOptions
from vmr.retrieval.service.app import create_app
from vmr.retrieval.service.options import ServiceOptions
from vmr.retrieval.service.schemas import SearchRequest
from vmr.retrieval.storage.records import Text
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.updating.spaces import VectorOptions
from vmr.retrieval.updating.update import update_index

SEARCH, VIDEOS = "/api/v1/search", "/api/v1/videos"
CYCLISTS = "cyclists in city traffic"


@pytest.fixture(scope="module")
def videos(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos in a folder of their own, one that is none, and one that will be missing."""
    folder = tmp_path_factory.mktemp("videos")
    shutil.copytree(footage, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.json"))
    (folder / "gone").mkdir()
    shutil.move(folder / "bigbuckbunny.mp4", folder / "gone" / "rabbit.mp4")
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def index(videos: Path, offline) -> Path:
    vmr.build_index(videos, videos.parent / "index", offline, window_s=2)
    (videos / "gone" / "rabbit.mp4").unlink()
    return videos.parent / "index"


@pytest.fixture(scope="module")
def client(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    options = ServiceOptions(index, cache=tmp_path_factory.mktemp("cache"))
    with TestClient(create_app(options), base_url="http://localhost") as client:
        yield client


def asked(client: TestClient, **request) -> dict:
    answer = client.post(SEARCH, json=request)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer) -> tuple[int, str]:
    (detail,) = answer.json().values()
    assert len(detail.splitlines()) == 1
    return answer.status_code, detail


def test_a_sentence_finds_its_moment(client):
    answer = asked(client, query=CYCLISTS, k=3)
    best = answer["hits"][0]
    assert (best["path"], best["name"], best["source"], best["text"]) == ("bikes.mp4", "bikes.mp4", "picture", None)
    assert answer["query"] == CYCLISTS and answer["nothing_close"] is False and answer["remarks"] == []
    assert best["media_url"] == f"{best['video_url']}/media#t={best['start_s']:.4g},{best['end_s']:.4g}"
    for hit in answer["hits"]:
        assert hit["strength"] == match_in_words(hit["match"]) and -1 <= hit["score"] <= 1
        assert client.get(hit["thumbnail_url"]).headers["content-type"] == "image/jpeg" or hit["missing"]
        assert client.get(hit["video_url"]).json()["path"] == hit["path"]


def test_an_address_finds_the_same(client):
    by_address = client.get(SEARCH, params={"q": CYCLISTS, "k": 4, "per_video": 1, "sources": "picture"}).json()
    posted = asked(client, query=CYCLISTS, k=4, per_video=1, sources=["picture"])
    assert by_address["hits"] == posted["hits"] and len({hit["video_id"] for hit in posted["hits"]}) == 3
    following = client.get(SEARCH, params={"q": CYCLISTS, "k": 1}).json()["next_cursor"]
    assert (
        asked(client, query=CYCLISTS, k=1, cursor=following)["hits"] == asked(client, query=CYCLISTS, k=2)["hits"][1:]
    )


def test_more_like_a_moment(client):
    best = asked(client, query=CYCLISTS, k=1)["hits"][0]
    answer = asked(client, like=best["moment_id"], k=5)
    assert answer["query"].startswith("like bikes.mp4, ") and answer["nothing_close"] is None
    assert best["moment_id"] not in [hit["moment_id"] for hit in answer["hits"]]
    assert all((hit["match"], hit["strength"]) == (None, None) for hit in answer["hits"])


def test_a_match_may_be_asked_for(client):
    matches = [hit["match"] for hit in asked(client, query=CYCLISTS)["hits"]]
    limit = matches[2]
    assert [hit["match"] for hit in asked(client, query=CYCLISTS, min_match=limit)["hits"]] == matches[:3]
    assert asked(client, query=CYCLISTS, min_match=1)["hits"] == []


def test_what_a_writer_commits_is_found_by_the_next_search(client, index):
    """A text says that something is close, though no picture shows it."""
    query = "the quarterly budget of the ministry"
    before = asked(client, query=query)
    with IndexWriter(index) as writer, writer.commit() as changes:
        video = next(each for each in changes.snapshot.videos() if each.path == "carphone_pristine.mp4")
        changes.set_texts(video.id, [Text(1.0, 2.0, "subtitle", "Our ministry's <b>quarterly</b> budget")])
    after = asked(client, query=query)
    assert (before["nothing_close"], after["nothing_close"]) == (True, False)
    assert after["index"]["commit"] == before["index"]["commit"] + 1
    (hit,) = [hit for hit in after["hits"] if hit["text"]]
    assert hit["text"] == "Our ministry's <b>quarterly</b> budget" and hit["video_id"] == video.id
    details = client.get(hit["video_url"]).json()
    assert details["texts"] == [{"start_s": 1.0, "end_s": 2.0, "kind": "subtitle", "text": hit["text"]}]


def test_a_video_that_is_gone(client):
    (hit,) = asked(client, query="a rabbit", where='path = "gone/rabbit.mp4"', k=1)["hits"]
    assert hit["missing"] and hit["path"] == "gone/rabbit.mp4" and hit["name"] == "rabbit.mp4"
    details = client.get(hit["video_url"]).json()
    assert details["missing"] and details["failure"].startswith("gone/rabbit.mp4: the file of this video is gone")
    assert refused(client.get(hit["thumbnail_url"]))[0] == 410


def test_what_is_known_of_a_video(client):
    best = asked(client, query=CYCLISTS, k=1)["hits"][0]
    details = client.get(best["video_url"], params={"query": CYCLISTS}).json()
    assert (details["duration_s"], details["width"], details["height"]) == (10.0, 640, 272)
    assert (details["missing"], details["failure"], details["metadata"], details["remarks"]) == (False, None, {}, [])
    assert client.get(details["playback_url"]).json()["kind"] in ("file", "remuxed", "transcoded")
    curve = details["curve"]
    assert len(curve) == details["num_moments"] and curve == sorted(curve)
    assert max(point[2] for point in curve) == best["score"]
    assert max(point[3] for point in curve) == pytest.approx(best["match"])
    like = client.get(best["video_url"], params={"like": best["moment_id"]}).json()["curve"]
    assert max(point[2] for point in like) == pytest.approx(1, abs=1e-3) and {point[3] for point in like} == {None}
    assert client.get(best["video_url"]).json()["curve"] is None


def test_lists(client):
    listed = client.get(VIDEOS, params={"sort": "duration", "order": "descending", "k": 2}).json()
    rest = client.get(
        VIDEOS, params={"sort": "duration", "order": "descending", "cursor": listed["next_cursor"]}
    ).json()
    paths = [video["path"] for video in [*listed["videos"], *rest["videos"]]]
    assert paths == ["bikes.mp4", "gone/rabbit.mp4", "carphone_pristine.mp4"]
    assert (listed["total"], rest["total"], rest["next_cursor"]) == (3, 3, None)
    long = client.get(VIDEOS, params={"where": "duration > 6"}).json()
    assert [video["name"] for video in long["videos"]] == ["bikes.mp4"] and long["total"] == 1
    failed = client.get("/api/v1/failures").json()
    assert failed["total"] == 1 and failed["failures"][0]["path"] == "broken.mp4" and failed["failures"][0]["reason"]


@pytest.mark.parametrize(
    ("request_", "status", "detail"),
    [
        ({}, 400, "a search needs one of these: query, like, or an upload"),
        ({"query": "a", "like": 1}, 400, "a search needs one of these: query, like, or an upload"),
        ({"query": ""}, 422, "query: String should have at least 1 character, not ''"),
        ({"query": " \t"}, 400, "the query is empty or not valid text: describe what the video shows"),
        ({"query": "x" * 1001}, 422, "query: String should have at most 1000 characters, not '" + "x" * 59 + "..."),
        ({"query": "a", "k": 101}, 422, "k: Input should be less than or equal to 100, not 101"),
        ({"query": "a", "k": 0}, 422, "k: Input should be greater than or equal to 1, not 0"),
        ({"query": "a", "rerank": 101}, 422, "rerank: Input should be less than or equal to 100, not 101"),
        ({"query": "a", "rerank": 5}, 400, "offline cannot compare a sentence and a video token by token"),
        ({"query": "a", "min_match": 1.5}, 422, "min_match: Input should be less than or equal to 1, not 1.5"),
        ({"like": 1, "min_match": 0.5}, 400, "min_match needs a sentence"),
        ({"query": "a", "sources": []}, 422, "sources: List should have at least 1 item"),
        ({"query": "a", "sources": ["sound"]}, 422, "sources.0: Input should be 'picture' or 'text'"),
        ({"query": "a", "where": "size"}, 400, "the expression is wrong at its end"),
        ({"query": "a", "cursor": "AAAA"}, 400, "cursor is none of this request: take next_cursor of the page before"),
        ({"like": True}, 422, "like: a number is needed, not True"),
        ({"query": "a", "k": True}, 422, "k: a number is needed, not True"),
        ({"query": "a", "page": 2}, 422, "page: Extra inputs are not permitted, not 2"),
        ({"like": 2**63}, 422, "like: Input should be less than or equal to 9223372036854775807"),
        ({"like": 2**63 - 1}, 400, "the index holds no moment 9223372036854775807: its video was removed"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_search_is_named(client, request_, status, detail):
    answer = refused(client.post(SEARCH, json=request_))
    assert answer[0] == status and answer[1].startswith(detail)


@pytest.mark.parametrize("number", ["0", "-1", "99", str(2**63 - 1), str(2**63), "1" * 100, "1" * 5000, "a", "%00"])
def test_numbers_of_videos_that_there_are_not(client, number):
    status, _ = refused(client.get(f"{VIDEOS}/{number}"))
    assert status == (404 if number.lstrip("-").isdigit() and len(number) <= 100 else 422)


def test_a_cursor_belongs_to_its_list(client):
    cursor = client.get(VIDEOS, params={"k": 1}).json()["next_cursor"]
    for wrong in ({"sort": "added"}, {"order": "descending"}, {"where": "duration > 1"}):
        status, detail = refused(client.get(VIDEOS, params={"cursor": cursor, **wrong}))
        assert status == 400 and detail.startswith("cursor is none of this request")
    assert refused(client.get("/api/v1/failures", params={"cursor": cursor}))[0] == 400
    assert refused(client.post(SEARCH, json={"query": "a", "cursor": cursor}))[0] == 400


def test_the_description_says_what_is_taken_and_answered(client):
    described = client.get("/openapi.json").json()
    posted = described["paths"][SEARCH]["post"]
    body = posted["requestBody"]["content"]["application/json"]["schema"]
    for example in body["examples"]:
        SearchRequest.model_validate_json(json.dumps(example))
    answered = posted["responses"]["200"]["content"]["application/json"]["schema"]
    assert answered == {"$ref": "#/components/schemas/SearchResponse"}
    schemas = described["components"]["schemas"]
    for name in ("Hit", "SearchResponse", "VideoSummary"):
        fields = schemas[name]["properties"]
        undescribed = [field for field, each in fields.items() if "description" not in each and "$ref" not in each]
        assert undescribed in ([], ["hits"], ["videos"])


def test_pages_of_a_search_that_is_ranked_again(videos: Path, tmp_path: Path):
    """They go on in the order of the logits, and then in that of the scores."""
    index, encoder = Handmade(tmp_path / "index"), make_encoder(tiny_model())
    shutil.rmtree(index.folder)
    options = {"vectors": VectorOptions(keep_tokens=True), "decode": DecodeOptions(num_workers=1)}
    update_index(videos / "bikes.mp4", index.folder, encoder, SegmentOptions(window_s=1.0), **options)
    with index.served(encoder):
        whole = index.page("a bicycle", rerank=4)
        assert len(whole.hits) > 5
        logits = [hit.rerank_score for hit in whole.hits]
        assert logits[4:] == [None] * len(logits[4:]) and logits[:4] == sorted(logits[:4], reverse=True)
        pages = index.pages("a bicycle", rerank=4, k=3)
        assert [hit.moment_id for page in pages for hit in page.hits] == [hit.moment_id for hit in whole.hits]
