"""Traces, metrics and logs of each RPC.

Metrics are RED (rate, errors, duration) by method and status code, named after OpenTelemetry's conventions. With
neither a Prometheus address nor an OTLP endpoint nothing is recorded and a call pays next to nothing.
"""

from __future__ import annotations

import logging
import re
import secrets
import sys
from collections.abc import Mapping
from typing import Any, Protocol, TextIO, cast

import structlog
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation import set_span_in_context

from services.runtime.config import Settings

log = structlog.get_logger("tollmesh")

# https://www.w3.org/TR/trace-context/#traceparent-header, version 00.
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}").fullmatch

# Upper bounds of the buckets of a duration; OpenTelemetry's own are meant for milliseconds.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Telemetry(Protocol):
    """Records calls and readings."""

    def record(self, path: str, code: str, seconds: float, traceparent: str) -> None:
        """Record one finished call."""

    def gauge(self, name: str, value: float, **attributes: str) -> None:
        """Record what something stands at now, e.g. a queue's length; the name ends in its unit."""

    def duration(self, name: str, seconds: float, **attributes: str) -> None:
        """Record how long one of many took, and by that how many there were."""

    def close(self) -> None:
        """Send what is buffered and stop."""


class Silent:
    """Records nothing."""

    def record(self, path: str, code: str, seconds: float, traceparent: str) -> None:
        """Do nothing."""

    def gauge(self, name: str, value: float, **attributes: str) -> None:
        """Do nothing."""

    def duration(self, name: str, seconds: float, **attributes: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class OpenTelemetry:
    """Records calls as metrics and, with an OTLP endpoint, as spans."""

    def __init__(self, settings: Settings) -> None:
        resource = Resource.create({"service.name": "tollmesh"})
        self._meters = MeterProvider(metric_readers=_readers(settings), resource=resource)
        meter = self._meter = self._meters.get_meter("tollmesh")
        self._gauges: dict[str, Any] = {}
        self._durations: dict[str, Any] = {}
        self._duration = meter.create_histogram(
            "rpc.server.call.duration",
            unit="s",
            description="Duration of incoming calls.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._tracers: TracerProvider | None = None
        if settings.otlp_endpoint:
            self._tracers = _tracer_provider(settings, resource)
            self._tracer = self._tracers.get_tracer("tollmesh")

    def record(self, path: str, code: str, seconds: float, traceparent: str) -> None:
        """Record one finished call."""
        attributes = {"rpc.method": path, "rpc.response.status_code": code}
        self._duration.record(seconds, attributes)
        if self._tracers is not None:
            self._span(path, seconds, traceparent, attributes)

    def gauge(self, name: str, value: float, **attributes: str) -> None:
        """Record what something stands at now."""
        if name not in self._gauges:
            self._gauges[name] = self._meter.create_gauge(name)
        self._gauges[name].set(value, attributes)

    def duration(self, name: str, seconds: float, **attributes: str) -> None:
        """Record how long one of many took."""
        if name not in self._durations:
            self._durations[name] = self._meter.create_histogram(
                name, unit="s", explicit_bucket_boundaries_advisory=_SECONDS
            )
        self._durations[name].record(seconds, attributes)

    def close(self) -> None:
        """Send what is buffered and stop."""
        self._meters.shutdown()
        if self._tracers is not None:
            self._tracers.shutdown()

    def _span(
        self, path: str, seconds: float, traceparent: str, attributes: Mapping[str, str]
    ) -> None:
        parent = _remote_parent(traceparent)
        span = self._tracer.start_span(
            path, context=parent, kind=SpanKind.SERVER, attributes=dict(attributes)
        )
        start_time = getattr(span, "start_time", None)
        # The span is made when the call ends, so its start is moved back by the duration.
        if start_time is not None:
            span._start_time = start_time - int(seconds * 1e9)  # type: ignore[attr-defined]
        span.end()


def build(settings: Settings) -> Telemetry:
    """Build what the settings ask for."""
    if settings.metrics_listen or settings.otlp_endpoint:
        return OpenTelemetry(settings)
    return Silent()


def new_traceparent() -> str:
    """Make a W3C trace context of a new trace."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def is_traceparent(text: str) -> bool:
    """True when the text is a W3C trace context; one that is not must not be passed on."""
    return _TRACEPARENT(text) is not None


def trace_id(traceparent: str) -> str:
    """Return the trace id of a trace context, or an empty text."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else ""


class _StandardError:
    """Standard error as it is when a line is written: whoever stood there at the start may have closed it."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure_logs(level: str) -> None:
    """Write log lines as JSON to standard error, from `level` up."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _StandardError())),
        cache_logger_on_first_use=True,
    )


def _readers(settings: Settings) -> list[MetricReader]:
    readers: list[MetricReader] = []
    if settings.metrics_listen:
        # Imported here: each costs start-up time that a mesh without metrics should not pay.
        from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415
        from prometheus_client import start_http_server  # noqa: PLC0415

        host, _, port = settings.metrics_listen.rpartition(":")
        start_http_server(int(port), host or "127.0.0.1")
        readers.append(PrometheusMetricReader())
    if settings.otlp_endpoint:
        readers.append(_otlp_reader(settings.otlp_endpoint))
    return readers


def _otlp_reader(endpoint: str) -> MetricReader:
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (  # noqa: PLC0415
        OTLPMetricExporter,
    )
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415

    return PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=endpoint, insecure=True))


def _tracer_provider(settings: Settings, resource: Resource) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint, insecure=True)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _remote_parent(traceparent: str) -> Any:
    if not is_traceparent(traceparent):
        return None
    parts = traceparent.split("-")
    span_context = SpanContext(
        int(parts[1], 16), int(parts[2], 16), is_remote=True, trace_flags=TraceFlags(1)
    )
    return set_span_in_context(NonRecordingSpan(span_context))
