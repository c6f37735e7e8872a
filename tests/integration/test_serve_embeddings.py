"""`/embeddings` and `/models` as clients of OpenAI's API use them: the JSON that such a client sends and reads."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import vmr
from vmr.retrieval.service.app import create_app
from vmr.retrieval.service.options import ServiceOptions

EMBEDDINGS = "/api/v1/embeddings"
TEXTS = ["a dog on a beach", "Bremsen, schnell! äöü 犬", "a" * 3000, "a dog on a beach"]


@pytest.fixture(scope="module")
def client(footage: Path, tmp_path_factory: pytest.TempPathFactory, offline) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("embeddings") / "index"
    vmr.build_index(footage / "carphone_pristine.mp4", folder, offline)
    with TestClient(create_app(ServiceOptions(folder)), base_url="http://127.0.0.1") as client:
        yield client


def embed(client: TestClient, **fields: Any) -> httpx.Response:
    return client.post(EMBEDDINGS, json=fields)


def refused(answer: httpx.Response, status: int) -> str:
    """Check that a client of OpenAI's API can read a refusal, and return the reason."""
    assert answer.status_code == status, answer.text
    said = answer.json()
    assert said["error"].keys() == {"message", "type", "param", "code"}
    assert said["error"]["message"] == said["detail"]
    assert "\n" not in said["detail"]
    return said["detail"]


def test_vectors_are_those_of_the_encoder(client: TestClient, offline):
    said = embed(client, input=TEXTS, model="offline", encoding_format="float").json()
    assert (said["object"], said["model"]) == ("list", "offline")
    assert [(each["object"], each["index"]) for each in said["data"]] == [("embedding", n) for n in range(4)]
    vectors = np.array([each["embedding"] for each in said["data"]], np.float32)
    np.testing.assert_array_equal(vectors, offline.encode_text(TEXTS).numpy())
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_what_a_client_sends_by_default(client: TestClient, offline):
    """The Python client asks for base64, and may name a user and dimensions."""
    body = {"input": ["a cat"], "model": "offline", "encoding_format": "base64", "user": "me", "dimensions": 384}
    (each,) = embed(client, **body).json()["data"]
    vector = np.frombuffer(base64.b64decode(each["embedding"]), "<f4")
    np.testing.assert_array_equal(vector, offline.encode_text(["a cat"]).numpy()[0])


def test_one_text_needs_no_list(client: TestClient):
    one, many = embed(client, input="a cat").json(), embed(client, input=["a cat"]).json()
    assert one == many


def test_tokens_are_counted_by_the_tokeniser(client: TestClient, offline):
    usage = embed(client, input=TEXTS).json()["usage"]
    assert usage == {"prompt_tokens": sum(offline.text_lengths(TEXTS)), "total_tokens": usage["prompt_tokens"]}
    assert embed(client, input="cat").json()["usage"]["prompt_tokens"] == 3, "[CLS] cat [SEP]"
    assert embed(client, input="cat " * 1000).json()["usage"]["prompt_tokens"] == 256, "the rest is not read"


def test_many_texts(client: TestClient, offline):
    texts = [f"a video of {number} dogs" for number in range(70)]
    said = embed(client, input=texts, encoding_format="base64").json()["data"]
    vectors = np.stack([np.frombuffer(base64.b64decode(each["embedding"]), "<f4") for each in said])
    np.testing.assert_array_equal(vectors, offline.encode_text(texts).numpy())


def test_another_model_is_refused_by_naming_this_one(client: TestClient):
    answer = embed(client, input="a cat", model="text-embedding-3-small")
    assert "'offline'" in refused(answer, 404)
    assert answer.json()["error"]["code"] == "model_not_found"


WRONG = {
    "token ids": ({"input": [1, 2, 3]}, "input: token ids"),
    "lists of token ids": ({"input": [[1, 2], [3]]}, "input: token ids"),
    "an empty text": ({"input": ""}, "input"),
    "an empty text in a list": ({"input": ["a", ""]}, "input.1"),
    "no text": ({"input": []}, "input"),
    "nothing": ({}, "input"),
    "null": ({"input": None}, "input"),
    "an object": ({"input": {"text": "a"}}, "input"),
    "mixed": ({"input": ["a", 1]}, "input.1"),
    "too many": ({"input": ["a"] * 1025}, "input"),
    "too long": ({"input": "a" * 20_001}, "input"),
    "other dimensions": ({"input": "a", "dimensions": 256}, "dimensions: vectors of offline have 384"),
    "an unknown format": ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(client: TestClient, name: str):
    body, reason = WRONG[name]
    said = refused(embed(client, **body), 422)
    assert said.startswith(reason)
    assert len(said) < 200


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"input": "\\ud800"}', b'{"input": NaN}', b"null", b"[]"]
)
def test_bodies_that_are_no_json_are_refused(client: TestClient, body: bytes):
    answer = client.post(EMBEDDINGS, content=body, headers={"Content-Type": "application/json"})
    refused(answer, 422)


def test_a_body_that_is_no_json_is_refused_at_its_place(client: TestClient):
    answer = client.post(EMBEDDINGS, content=b'{\n  "input": x}', headers={"Content-Type": "application/json"})
    assert refused(answer, 422) == "the body is not JSON: expected value at character 14"


def test_too_many_characters_are_refused(client: TestClient):
    assert "400000 characters" in refused(embed(client, input=["a" * 20_000] * 21), 413)


def test_pictures_and_clips_have_vectors_of_the_same_space(client: TestClient, footage: Path, offline):
    video = footage / "carphone_pristine.mp4"
    with vmr.VideoReader(video) as reader:
        frame = reader.frames_at([reader.num_frames // 2])[0]
    picture = io.BytesIO()
    Image.fromarray(frame.transpose(1, 2, 0)).save(picture, "PNG")
    files = [("file", ("a.png", picture.getvalue())), ("file", ("b.mp4", video.read_bytes()))]
    said = client.post(EMBEDDINGS, files=files, data={"model": "offline", "encoding_format": "base64"}).json()
    still, clip = (np.frombuffer(base64.b64decode(each["embedding"]), "<f4") for each in said["data"])
    np.testing.assert_array_equal(clip, offline.encode_video(vmr.read_video(video, offline))[0].numpy())
    assert still @ clip > 0.9
    assert said["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


def test_forms_are_checked_as_well(client: TestClient):
    files = {"file": ("a", b"x")}
    assert "offline" in refused(client.post(EMBEDDINGS, files=files, data={"model": "other"}), 404)
    assert refused(client.post(EMBEDDINGS, files=files, data={"dimensions": "many"}), 422).startswith("dimensions")
    assert refused(client.post(EMBEDDINGS, files=files), 415).startswith("a: ")
    assert refused(client.post(EMBEDDINGS, files=[("file", ("a", b"x"))] * 17), 422)
    assert refused(client.post(EMBEDDINGS, files={"model": (None, "offline")}), 422).startswith("file: is missing")
    assert refused(client.post(EMBEDDINGS, files={"file": (None, "text")}), 422).startswith("file: has no filename")


def test_models_are_listed(client: TestClient):
    said = client.get("/api/v1/models").json()
    (model,) = said["data"]
    assert said["object"] == "list"
    assert (model["id"], model["object"], model["owned_by"]) == ("offline", "model", "vmr")
    assert model["created"] > 1_500_000_000
