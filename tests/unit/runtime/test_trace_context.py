"""W3C trace context: what is continued, as what, and what is not."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest.mock import AsyncMock

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator

from services.runtime import telemetry
from services.runtime.config import Settings
from services.runtime.events import handling
from services.runtime.events.envelope import Reaction
from services.runtime.events.relay import Delivery
from services.runtime.telemetry import OpenTelemetry, Silent, read_traceparent, read_tracestate

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def header(version: str = "00", flags: str = "01", more: str = "") -> str:
    return f"{version}-{TRACE}-{SPAN}-{flags}{more}"


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (header(), header()),
        (header(flags="00"), header(flags="00")),
        (header(flags="03"), header(flags="03")),
        # Bits without a meaning are not passed on; sampled is what its sender said.
        (header(flags="ff"), header(flags="03")),
        (header(flags="fe"), header(flags="02")),
        (header(flags="08"), header(flags="00")),
        (header("cc"), header()),
        (header("cc", "00"), header(flags="00")),
        (header("01", more="-what-ever"), header()),
        (header("cc", "00", "-the.future: ü"), header(flags="00")),
        (header("fe", more="-"), header()),
        (f"  {header()}\t", header()),
    ],
)
def test_what_is_continued(sent: str, read: str) -> None:
    assert read_traceparent(sent) == read


@pytest.mark.parametrize(
    "sent",
    [
        *("", "x", header("ff"), header("ff", more="-x"), header(more="-x"), header(more="-")),
        *(header("0"), header("CC"), header("0g"), header(flags="1"), header(flags="0A")),
        *(header("cc", more="x"), header("cc", more=".x"), header("cc", flags="0", more="-1")),
        *(header().upper(), header().replace(TRACE, "0" * 32), header().replace(SPAN, "0" * 16)),
        *(
            header().replace(TRACE, TRACE[1:]),
            header().replace("-", "_"),
            header("cc", more="-a\nb"),
        ),
        header().replace(TRACE, "\N{ARABIC-INDIC DIGIT ONE}" * 32),
    ],
)
def test_what_is_none(sent: str) -> None:
    assert read_traceparent(sent) == ""


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ([], ""),
        (["a=1"], "a=1"),
        (["a=1,b=2", "c=3"], "a=1,b=2,c=3"),
        ([" a=1 ,\tb=2", ""], "a=1,b=2"),
        (["t61rcwkgmzx@foo=x!y~z"], "t61rcwkgmzx@foo=x!y~z"),
        (["a=1,a=2"], ""),
        (["A=1"], ""),
        (["a=1=2"], ""),
        (["a="], ""),
        (["a"], ""),
        (["a=ü"], ""),
        ([",".join(f"k{n}=1" for n in range(33))], ""),
    ],
)
def test_tracestate(sent: list[str], read: str) -> None:
    assert read_tracestate(sent) == read


def test_where_no_spans_are_recorded_the_caller_s_is_passed_on() -> None:
    assert Silent().own_traceparent(header(flags="00")) == header(flags="00")
    made = Silent().own_traceparent("")
    assert read_traceparent(made) == made


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()

    def provider(settings: Settings, resource: Resource, ids: IdGenerator) -> object:
        made = TracerProvider(resource=resource, id_generator=ids)
        made.add_span_processor(SimpleSpanProcessor(exporter))
        return made

    monkeypatch.setattr(telemetry, "_tracer_provider", provider)
    monkeypatch.setattr(telemetry, "_readers", lambda _settings: [])
    return exporter


def test_each_hop_has_a_span_of_its_own_below_its_caller_s(spans: InMemorySpanExporter) -> None:
    recording = OpenTelemetry(Settings(otlp_endpoint="nowhere:1"))
    first = recording.own_traceparent(header())
    second = recording.own_traceparent(first)
    assert len({header(), first, second}) == 3
    recording.record("/b", "OK", 0.1, second, first)
    recording.record("/a", "OK", 0.2, first, header())
    root = recording.own_traceparent("")
    recording.record("/root", "OK", 0.1, root, "")
    b, a, alone = spans.get_finished_spans()
    assert a.parent is not None and b.parent is not None
    assert f"{a.context.trace_id:032x}" == f"{b.context.trace_id:032x}" == TRACE
    assert f"{a.parent.span_id:016x}" == SPAN
    assert b.parent.span_id == a.context.span_id
    assert first == f"00-{TRACE}-{a.context.span_id:016x}-01"
    assert alone.parent is None
    assert root == f"00-{alone.context.trace_id:032x}-{alone.context.span_id:016x}-01"
    recording.close()


def test_a_trace_that_its_caller_does_not_sample_is_not_recorded(
    spans: InMemorySpanExporter,
) -> None:
    recording = OpenTelemetry(Settings(otlp_endpoint="nowhere:1"))
    own = recording.own_traceparent(header(flags="00"))
    assert own.endswith("-00") and own != header(flags="00")
    recording.record("/a", "OK", 0.1, own, header(flags="00"))
    recording.record("/refused-early", "UNAUTHENTICATED", 0.1, "", "")
    assert [span.name for span in spans.get_finished_spans()] == ["/refused-early"]
    recording.close()


@pytest.mark.parametrize(
    ("stored", "passed_on"),
    [
        (header(flags="00"), header(flags="00")),
        (header("cc", "00") + "-more", header(flags="00")),
        ("größe\n", ""),
        ("", ""),
    ],
)
def test_what_an_event_brought_is_passed_on_as_version_00_spells_it(
    stored: str, passed_on: str
) -> None:
    """An outside producer may write anything there, and gRPC sends no such header."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    ids = ("t", "k", "e", moment, False, "a.b.v1", 1, "", b"{}", "correlation", "cause")
    delivery = Delivery(1, 0, 0, *ids, stored, moment)
    reaction = Reaction("test.reader", ("a.b",), AsyncMock(), takes_json=True)
    assert handling._call(reaction, delivery).traceparent == passed_on
