"""Numbers about the running service, in the form that Prometheus reads."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The numbers of one service, apart from those of others in the same process.

    Attributes:
        registry: where parts of the service may register more of them.
        requests: answered requests, by method, route and status.
        seconds: until an answer began, by method and route.
        rows: moments of the index.
        videos: videos of the index.
        commit: number of the commit of the index that searches see.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "vmr_requests", "Answered requests", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "vmr_request_seconds",
            "Seconds until an answer began",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.rows = Gauge("vmr_index_moments", "Moments of the index", registry=self.registry)
        self.videos = Gauge("vmr_index_videos", "Videos of the index", registry=self.registry)
        self.commit = Gauge("vmr_index_commit", "Commit of the index that searches see", registry=self.registry)

    def text(self) -> bytes:
        """Return all numbers in the text format of Prometheus."""
        return generate_latest(self.registry)


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
                route = getattr(scope.get("route"), "path", "other").removeprefix("/api/v1")
                self._metrics.requests.labels(method, route, message["status"]).inc()
                self._metrics.seconds.labels(method, route).observe(seconds)
            await send(message)

        await self._app(scope, receive, counted if scope["type"] == "http" else send)
