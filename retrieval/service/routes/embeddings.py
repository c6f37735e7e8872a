"""`/embeddings` and `/models`: the encoder of the index for other programs, as clients of OpenAI's API ask for it."""

import base64
import json
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from vmr.models.encoder import CountsTokens, Encoder
from vmr.retrieval.service.guard.requests import takes_up_to
from vmr.retrieval.service.routes.bodies import described, is_form, read_json, valid
from vmr.retrieval.service.service import Service, Shared
from vmr.retrieval.storage.records import Space


class _AlsoAsError(APIRoute):
    """A route that says why it refuses a request also as `error`, which clients of OpenAI's API read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()

        async def answer_or_refuse(request: Request) -> Response:
            try:
                return await answer(request)
            except Exception as error:
                handlers = request.app.exception_handlers
                handler = next((handlers[kind] for kind in type(error).__mro__ if kind in handlers), None)
                if handler is None:
                    raise
                refused, headers = handler(request, error), getattr(error, "headers", None)
            status, detail = refused.status_code, json.loads(refused.body)["detail"]
            kind = "invalid_request_error" if status < 500 else "server_error"
            code = "model_not_found" if status == 404 else None
            refusal = {"message": detail, "type": kind, "param": None, "code": code}
            return JSONResponse({"detail": detail, "error": refusal}, status, headers)

        return answer_or_refuse


router = APIRouter(tags=["embeddings"], route_class=_AlsoAsError)

MAX_TEXTS = 1024  # their vectors are 8 MB of JSON
MAX_TEXT_CHARS = 20_000
MAX_CHARS = 400_000  # of all texts of a request
MAX_FILES = 16
_TEXTS_AT_ONCE = 16  # others can search in between

Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARS)]


def _listed(given: Any) -> Any:
    """Make a list of one text; refuse token ids, which are those of another tokeniser."""
    if isinstance(given, list) and given and isinstance(given[0], int | list):
        raise ValueError("token ids are of another tokeniser: send texts")
    return [given] if isinstance(given, str) else given


class EmbeddingOptions(BaseModel):
    """How something is to be embedded. Options that other services know, such as `user`, are passed over."""

    model: str | None = Field(None, description="name of the encoder as `/models` says; nothing for that of the index")
    encoding_format: Literal["float", "base64"] = Field("float", description="`base64`: little-endian float32")
    dimensions: int | None = Field(None, description="how many numbers a vector has: no other than the encoder's own")


class EmbeddingsRequest(EmbeddingOptions):
    """What is to be embedded, and how."""

    input: Annotated[
        list[Text],
        Field(min_length=1, max_length=MAX_TEXTS),
        BeforeValidator(_listed, json_schema_input_type=str | list[str]),
    ] = Field(description="a text, or a list of texts; the encoder cuts those that are too long for it")


class Embedding(BaseModel):
    """The vector of one input."""

    object: Literal["embedding"] = "embedding"
    index: int = Field(description="number of the input, from 0")
    embedding: list[float] | str = Field(description="the numbers, or base64")


class Usage(BaseModel):
    """How much was embedded."""

    prompt_tokens: int = Field(description="tokens that the encoder reads; words where it does not count tokens")
    total_tokens: int


class Embeddings(BaseModel):
    """The vectors of all inputs, in their order."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class Model(BaseModel):
    """An encoder."""

    id: str = Field(description="its name")
    object: Literal["model"] = "model"
    created: int = Field(description="when the index was made, in seconds since 1970")
    owned_by: str = "vmr"


class Models(BaseModel):
    """The encoders that can be asked: that of the index."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/models")
async def models(service: Shared) -> Models:
    """Name the encoder of the index."""
    created = datetime.fromisoformat((await service.index.info()).created)
    return Models(data=[Model(id=(await service.index.space()).name, created=int(created.timestamp()))])


@router.post(
    "/embeddings",
    response_model=Embeddings,
    openapi_extra=described(EmbeddingsRequest, EmbeddingOptions, "a picture or a clip, up to 16"),
)
@takes_up_to("upload_bytes")
async def embeddings(request: Request, service: Shared) -> Response:
    """Embed texts, or pictures and clips: vectors of one space, whose dot product is their similarity."""
    if is_form(request):
        return await _of_files(request, service)
    ask = await read_json(request, EmbeddingsRequest)
    space = await _checked_space(service, ask)
    texts = ask.input
    if sum(map(len, texts)) > MAX_CHARS:
        raise HTTPException(413, f"input: more than {MAX_CHARS} characters together: send fewer texts at a time")
    batches = [texts[start : start + _TEXTS_AT_ONCE] for start in range(0, len(texts), _TEXTS_AT_ONCE)]
    vectors = [vector for batch in batches for vector in await service.index.embed_texts(batch)]
    num_tokens = await service.index.with_encoder(lambda encoder: _count_tokens(encoder, texts))
    return await run_in_threadpool(lambda: _answer(space, vectors, ask, num_tokens))


async def _of_files(request: Request, service: Service) -> Response:
    async with service.uploads.received(request, MAX_FILES) as form:
        ask = valid(EmbeddingOptions, form.fields)
        space = await _checked_space(service, ask)
        vectors = [(await service.uploads.vector_of(file))[0] for file in (form.file, *form.files[1:])]
        return _answer(space, vectors, ask, 0)


async def _checked_space(service: Service, ask: EmbeddingOptions) -> Space:
    """The space of the answer, if it is what a request asks for."""
    space = await service.index.space()
    if ask.model not in (None, space.name, space.encoder):
        raise HTTPException(404, f"model: there is no {ask.model!r:.60} here: name {space.name!r}, or none")
    if ask.dimensions not in (None, space.dim):
        raise HTTPException(422, f"dimensions: vectors of {space.name} have {space.dim} numbers")
    return space


def _count_tokens(encoder: Encoder, texts: list[str]) -> int:
    return sum(
        encoder.text_lengths(texts) if isinstance(encoder, CountsTokens) else (len(text.split()) for text in texts)
    )


def _answer(space: Space, vectors: Sequence[NDArray[np.float32]], ask: EmbeddingOptions, tokens: int) -> Response:
    encoded = [_encoded(vector, ask.encoding_format) for vector in vectors]
    data = [Embedding(index=number, embedding=each) for number, each in enumerate(encoded)]
    usage = Usage(prompt_tokens=tokens, total_tokens=tokens)
    answer = Embeddings(data=data, model=space.name, usage=usage)
    return Response(answer.model_dump_json(), media_type="application/json")  # as it is: it may be large


def _encoded(vector: NDArray[np.float32], encoding: str) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    return [float(number) for number in vector.tolist()]
