"""Numbers about the running service, in the form that Prometheus reads."""

import time
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vmr.retrieval.service.options import API

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The numbers of one service, apart from those of others in the same process.

    Args:
        load: tells the load of the threads of the index, see `ServedIndex.load`.

    Attributes:
        requests: answered requests, by method, route and status.
        seconds: until an answer began, by method and route.
        rows: moments of the index.
        videos: videos of the index.
        commit: number of the commit of the index that searches see.
        cache: bytes of pictures and videos that were made and are kept.
    """

    def __init__(self, load: Callable[[], Mapping[str, tuple[int, int]]]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # when each number began, which nobody asks
        self._all = registry = CollectorRegistry()
        by_route = ("method", "route")
        self.requests = Counter("vmr_requests", "Answered requests", (*by_route, "status"), registry=registry)
        self.seconds = Histogram(
            "vmr_request_seconds", "Seconds until an answer began", by_route, buckets=_SECONDS, registry=registry
        )
        self.rows = Gauge("vmr_index_moments", "Moments of the index", registry=registry)
        self.videos = Gauge("vmr_index_videos", "Videos of the index", registry=registry)
        self.commit = Gauge("vmr_index_commit", "Commit of the index that searches see", registry=registry)
        self.cache = Gauge("vmr_cache_bytes", "Pictures and videos that were made and are kept", registry=registry)
        registry.register(_Load(load))

    def text(self) -> bytes:
        """Return all numbers in the text format of Prometheus."""
        return generate_latest(self._all)


class _Load(Collector):
    """What the threads of the index were asked; questions that come together are answered at once."""

    def __init__(self, load: Callable[[], Mapping[str, tuple[int, int]]]) -> None:
        self._load = load

    def collect(self) -> Iterable[CounterMetricFamily]:
        questions = CounterMetricFamily("vmr_index_questions", "What the index was asked", labels=["thread"])
        batches = CounterMetricFamily("vmr_index_batches", "Times at which it answered", labels=["thread"])
        for thread, (num_questions, num_batches) in self._load().items():
            questions.add_metric([thread], num_questions)
            batches.add_metric([thread], num_batches)
        return [questions, batches]


class Counted:
    """Counts answers, and measures how long they take to begin; what follows is as slow as the client's connection.

    Args:
        app: answers.
        metrics: where they are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, and count that."""
        start = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = time.perf_counter() - start
                method = scope["method"] if scope["method"] in _METHODS else "other"
                # The template, because every id would be a number of its own; some versions of FastAPI add the prefix.
                route = getattr(scope.get("route"), "path", "other").removeprefix(API)
                self._metrics.requests.labels(method, route, message["status"]).inc()
                self._metrics.seconds.labels(method, route).observe(seconds)
            await send(message)

        await self._app(scope, receive, counted if scope["type"] == "http" else send)
