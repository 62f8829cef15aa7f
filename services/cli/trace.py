"""The demo's traces as usage events: three per row."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

from payments.metering.v1 import metering_pb2

from services.cli.readers import GoodRow, parse_event_time


@dataclass(frozen=True, slots=True)
class Trace:
    """One trace.

    Attributes:
        org_id: whose usage it is in the demo.
        project_id: the project that it belongs to.
        file_name: the file, in `services/cli/data`.
        label: short name, from which the events' ids derive.
    """

    org_id: str
    project_id: str
    file_name: str
    label: str


TRACES = (
    Trace("code-assist", "completions", "llm-inference-code.csv.gz", "code"),
    Trace("chat", "conversations", "llm-inference-conversation.csv.gz", "conv"),
)


def events(trace: Trace) -> Iterator[GoodRow]:
    """Yield three events per row; their ids derive from file and row, so a second run repeats them."""
    for row, record in enumerate(_records(trace), start=1):
        at, input_tokens, output_tokens = record
        event_time = parse_event_time(at)
        quantities = (
            ("llm.requests", "1"),
            ("llm.input_tokens", input_tokens),
            ("llm.output_tokens", output_tokens),
        )
        for sku, quantity in quantities:
            event = metering_pb2.UsageEvent(
                request_id=f"{trace.label}-{row}-{sku}",
                org_id=trace.org_id,
                project_id=trace.project_id,
                sku=sku,
                quantity=quantity,
                source=metering_pb2.SOURCE_BACKEND,
            )
            event.event_time.FromDatetime(event_time)
            yield GoodRow(row, event)


def _records(trace: Trace) -> Iterator[list[str]]:
    path = resources.files("services.cli.data").joinpath(trace.file_name)
    with path.open("rb") as packed, gzip.open(packed) as raw:
        reader = csv.reader(io.TextIOWrapper(raw, encoding="utf-8"))
        next(reader)
        yield from reader
