"""Traces, metrics and logs of each RPC.

Metrics are RED (rate, errors, duration) by method and status code, named after OpenTelemetry's conventions. With
neither a Prometheus address nor an OTLP endpoint nothing is recorded and a call pays next to nothing.
"""

from __future__ import annotations

import logging
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TextIO, cast

import structlog
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation import set_span_in_context

from services.runtime.config import Settings
from services.runtime.measures import MESH, Measure

log = structlog.get_logger("tollmesh")

# https://www.w3.org/TR/trace-context/#versioning-of-traceparent: of a version to come the first four fields are read,
# and more may follow them; ff is no version.
_TRACEPARENT = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})"
    r"-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<span>(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
).fullmatch
# Those that have a meaning: sampled (1) and random trace id (2). Others must not be passed on.
_FLAGS_KNOWN = 0x03

# https://www.w3.org/TR/trace-context/#tracestate-header: members that vendors keep for themselves.
_TRACESTATE_MEMBER = re.compile(
    r"(?:[a-z0-9][a-z0-9_*/@-]{0,255})=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
).fullmatch
_TRACESTATE_MEMBERS_MAX = 32

# A number that nobody has brought up to date for so long would be a lie: what takes it looks every 30 seconds.
GAUGE_SECONDS_MAX = 90.0

# Combinations of labels that a counter tells apart: names that tenants choose are among them, and each costs memory
# here and at whoever collects. All others are counted together, under this name.
LABELS_MAX = 1_000
OTHER = "other"

# Upper bounds of the buckets of a duration; OpenTelemetry's own are meant for milliseconds.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


Read = Callable[[], Iterable[tuple[float, Mapping[str, str]]]]
"""Takes readings: values with their attributes; none while what is asked for is not known."""


class Telemetry(Protocol):
    """Records calls and readings."""

    def own_traceparent(self, parent: str) -> str:
        """Return the trace context of a call's own work, below its caller's span or, with none, at a new root.

        Where no spans are recorded the caller's own is passed on: a span that nobody records is nobody's parent.
        """

    def record(self, path: str, code: str, seconds: float, traceparent: str, parent: str) -> None:
        """Record one finished call: under which trace context it worked, and under whose span."""

    def count(self, measure: Measure, amount: int, labels: Mapping[str, str]) -> None:
        """Add to a counter."""

    def gauge(self, name: str, value: float, **attributes: str) -> None:
        """Record what something stands at now, e.g. a queue's length; the name ends in its unit."""

    def observe(self, name: str, read: Read) -> None:
        """Register a gauge that is read on demand; its name ends in its unit."""

    def duration(self, name: str, seconds: float, **attributes: str) -> None:
        """Record how long one of many took, and by that how many there were."""

    def close(self) -> None:
        """Send what is buffered and stop."""


class Silent:
    """Records nothing."""

    def own_traceparent(self, parent: str) -> str:
        """Pass the caller's on, or begin a trace."""
        return parent or new_traceparent()

    def record(self, path: str, code: str, seconds: float, traceparent: str, parent: str) -> None:
        """Do nothing."""

    def count(self, measure: Measure, amount: int, labels: Mapping[str, str]) -> None:
        """Do nothing."""

    def gauge(self, name: str, value: float, **attributes: str) -> None:
        """Do nothing."""

    def observe(self, name: str, read: Read) -> None:
        """Do nothing."""

    def duration(self, name: str, seconds: float, **attributes: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


_Readings = dict[tuple[tuple[str, str], ...], tuple[float, float]]
"""By their attributes: values, and when they were taken, in monotonic seconds."""


def _fresh(readings: _Readings) -> list[tuple[float, dict[str, str]]]:
    since = time.monotonic() - GAUGE_SECONDS_MAX
    # A copy: it is written by another thread.
    return [(value, dict(key)) for key, (value, at) in list(readings.items()) if at >= since]


class OpenTelemetry:
    """Records calls as metrics and, with an OTLP endpoint, as spans."""

    def __init__(self, settings: Settings, declared: Sequence[Measure] = MESH) -> None:
        self._described = {measure.name: measure.description for measure in declared}
        resource = Resource.create({"service.name": "tollmesh"})
        self._meters = MeterProvider(metric_readers=_readers(settings), resource=resource)
        meter = self._meter = self._meters.get_meter("tollmesh")
        self._gauges: dict[str, _Readings] = {}
        self._durations: dict[str, Any] = {}
        self._counters: dict[str, tuple[Any, set[tuple[tuple[str, str], ...]]]] = {}
        self._duration = meter.create_histogram(
            "rpc.server.call.duration",
            unit="s",
            description=self._described.get("rpc.server.call.duration", ""),
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._tracers: TracerProvider | None = None
        self._ids = _ChosenIds()
        if settings.otlp_endpoint:
            self._tracers = _tracer_provider(settings, resource, self._ids)
            self._tracer = self._tracers.get_tracer("tollmesh")

    def own_traceparent(self, parent: str) -> str:
        """Begin a span, below the caller's or at a new root."""
        if self._tracers is None or not parent:
            return parent or new_traceparent()
        version, trace, _, flags = parent.split("-")
        return f"{version}-{trace}-{secrets.token_hex(8)}-{flags}"

    def record(self, path: str, code: str, seconds: float, traceparent: str, parent: str) -> None:
        """Record one finished call."""
        attributes = {"rpc.method": path, "rpc.response.status_code": code}
        self._duration.record(seconds, attributes)
        if self._tracers is not None:
            self._span(path, seconds, traceparent, parent, attributes)

    def count(self, measure: Measure, amount: int, labels: Mapping[str, str]) -> None:
        """Add to a counter."""
        if measure.name not in self._counters:
            counter = self._meter.create_counter(
                measure.name, unit=measure.unit, description=measure.description
            )
            self._counters[measure.name] = (counter, set())
        counter, seen = self._counters[measure.name]
        key = tuple(sorted(labels.items()))
        if key not in seen:
            if len(seen) >= LABELS_MAX:
                labels = dict.fromkeys(labels, OTHER)
            else:
                seen.add(key)
        counter.add(amount, dict(labels))

    def gauge(self, name: str, value: float, **attributes: str) -> None:
        """Record what something stands at now; it is shown for 90 seconds, then it is not known any more."""
        readings = self._gauges.get(name)
        if readings is None:
            readings = self._gauges[name] = {}
            self.observe(name, lambda: _fresh(readings))
        readings[tuple(sorted(attributes.items()))] = (value, time.monotonic())

    def observe(self, name: str, read: Read) -> None:
        """Have a reading taken at each scrape, in the thread that answers it."""

        def observations(_: CallbackOptions) -> list[Observation]:
            return [Observation(value, dict(attributes)) for value, attributes in read()]

        # Without the unit, with which names end already: the Prometheus exporter would add it again.
        described = self._described.get(name, "")
        self._meter.create_observable_gauge(name, [observations], description=described)

    def duration(self, name: str, seconds: float, **attributes: str) -> None:
        """Record how long one of many took."""
        if name not in self._durations:
            self._durations[name] = self._meter.create_histogram(
                name,
                unit="s",
                description=self._described.get(name, ""),
                explicit_bucket_boundaries_advisory=_SECONDS,
            )
        self._durations[name].record(seconds, attributes)

    def close(self) -> None:
        """Send what is buffered and stop."""
        self._meters.shutdown()
        if self._tracers is not None:
            self._tracers.shutdown()

    def _span(
        self, path: str, seconds: float, own: str, parent: str, attributes: Mapping[str, str]
    ) -> None:
        if not own:  # refused before it had one
            own = new_traceparent()
        self._ids.choose(own)
        span = self._tracer.start_span(
            path,
            context=_remote_parent(parent) or Context(),
            kind=SpanKind.SERVER,
            attributes=dict(attributes),
        )
        start_time = getattr(span, "start_time", None)
        # The span is made when the call ends, so its start is moved back by the duration.
        if start_time is not None:
            span._start_time = start_time - int(seconds * 1e9)  # type: ignore[attr-defined]
        span.end()


class _ChosenIds(IdGenerator):
    """Ids of the span that is made next: those under which its call has worked already."""

    def choose(self, traceparent: str) -> None:
        """Take the ids of a trace context."""
        _, trace, span, _ = traceparent.split("-")
        self._trace, self._span = int(trace, 16), int(span, 16)

    def generate_trace_id(self) -> int:
        """Return the chosen trace, asked for when there is no parent."""
        return self._trace

    def generate_span_id(self) -> int:
        """Return the chosen span."""
        return self._span


def build(settings: Settings, declared: Sequence[Measure] = MESH) -> Telemetry:
    """Build what the settings ask for, with the descriptions of the measures that are declared."""
    if settings.metrics_listen or settings.otlp_endpoint:
        return OpenTelemetry(settings, declared)
    return Silent()


def new_traceparent() -> str:
    """Make a W3C trace context of a new trace."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def read_traceparent(text: str) -> str:
    """Return a W3C trace context as version 00 spells it, or an empty text for what is none.

    The sampled flag stays as its sender set it.
    """
    found = _TRACEPARENT(text.strip(" \t"))
    if found is None or (found["version"] == "00" and found["more"] is not None):
        return ""
    flags = int(found["flags"], 16) & _FLAGS_KNOWN
    return f"00-{found['trace']}-{found['span']}-{flags:02x}"


def read_tracestate(values: Sequence[str]) -> str:
    """Return the members of all `tracestate` headers as one, or an empty text when they are not what W3C asks for."""
    members = [member.strip(" \t") for value in values for member in value.split(",")]
    members = [member for member in members if member]
    keys = {member.partition("=")[0] for member in members}
    sound = len(keys) == len(members) <= _TRACESTATE_MEMBERS_MAX
    return ",".join(members) if sound and all(map(_TRACESTATE_MEMBER, members)) else ""


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
    for name in ("psycopg", "sqlalchemy.pool"):
        # What they say of sessions that break, ours say once.
        logging.getLogger(name).setLevel(logging.CRITICAL)
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
        # A line is one write: lines of several processes never mix.
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _StandardError())),
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


def _tracer_provider(settings: Settings, resource: Resource, ids: IdGenerator) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=resource, id_generator=ids)
    exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint, insecure=True)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _remote_parent(traceparent: str) -> Context | None:
    if not traceparent:
        return None
    _, trace, span, flags = traceparent.split("-")
    span_context = SpanContext(
        int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )
    return set_span_in_context(NonRecordingSpan(span_context))
