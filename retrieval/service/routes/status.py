"""`/healthz`."""

from fastapi import APIRouter

from vmr.retrieval.service.schemas import Health

router = APIRouter(tags=["status"])


@router.get("/healthz")
async def healthz() -> Health:
    """Say that the service answers."""
    return Health()
