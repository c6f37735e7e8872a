"""`/healthz`, `/index` and `/metrics`: how the service is, and what it serves."""

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from vmr.retrieval.service.schemas import Health, IndexFacts
from vmr.retrieval.service.service import Service, Shared

router = APIRouter(tags=["status"])


class MetricsResponse(PlainTextResponse):
    """Numbers in the text format of Prometheus."""

    media_type = CONTENT_TYPE_LATEST


@router.get("/healthz")
async def healthz() -> Health:
    """Say that the service answers."""
    return Health()


@router.get("/index")
async def index(service: Shared) -> IndexFacts:
    """Say what the index holds, and how that was made."""
    return await _facts(service)


@router.get("/metrics", response_class=MetricsResponse)
async def metrics(service: Shared) -> MetricsResponse:
    """Return numbers about the service for Prometheus."""
    facts, numbers = await _facts(service), service.metrics
    numbers.rows.set(facts.num_moments)
    numbers.videos.set(facts.num_videos)
    numbers.commit.set(facts.commit)
    numbers.cache.set(await service.media.cache_bytes())
    return MetricsResponse(numbers.text())


async def _facts(service: Service) -> IndexFacts:
    info = await service.index.info()
    commit = await service.index.read(lambda snapshot: int(snapshot.meta("commit")))
    return IndexFacts.model_validate({**vars(info), "num_moments": info.num_windows, "commit": commit})
