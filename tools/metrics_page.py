"""Write docs/reference/metrics.md from what the services declare, or check that it is what they give."""

from __future__ import annotations

import argparse
import sys
from itertools import groupby
from pathlib import Path

if __package__ in (None, ""):  # run as a script: our own folder's parent is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from services.runtime.manifests import measured
from services.runtime.measures import Measure, MeasureKind
from tools import pages

ROOT = Path(__file__).resolve().parent.parent
PAGE = "docs/reference/metrics.md"

HEAD = """\
# Metrics

<!-- Written by tools/metrics_page.py from what the services declare.
     `make generate` writes it again; `make lint` fails when it is stale. -->

With `TOLLMESH_METRICS_LISTEN=127.0.0.1:9464` each process answers Prometheus at `/metrics`; with
`TOLLMESH_OTLP_ENDPOINT` it sends the same by OTLP. [deploy/alerts.yaml](../../deploy/alerts.yaml) has rules for them.

Counters count what was committed, in the process that did it, from its start on: what is rolled back, tried again or
sent twice is not counted twice. They are for watching; the books are in the ledger. Amounts are in minor units of
the currency. A counter tells 1,000 combinations of labels apart and counts all others as `other`.
"""

_TITLES = {
    "rpc": "Calls",
    "metering": "Usage",
    "billing": "Charges",
    "settlement": "Payouts",
    "ledger": "Ledger",
    "payments": "Payments",
    "agreements": "Agreements",
    "orders": "Orders",
    "webhooks": "Webhooks",
    "events": "The event log",
    "work": "Queues",
    "loop": "Background work",
    "transport": "NATS",
}
_REST = "The process and its database"
_SUFFIX = {"s": "_seconds"}


def main() -> int:
    """Write or check; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail when it is stale"
    )
    check = parser.parse_args().check
    return pages.write_or_check(
        ROOT, {PAGE: page()}, check=check, as_what="the services declare them"
    )


def page() -> str:
    """Return the page."""
    order = [*_TITLES.values(), _REST]
    found = sorted(measured(), key=lambda measure: order.index(_title(measure)))
    parts = [HEAD]
    for title, measures in groupby(found, key=_title):
        parts += [
            f"\n## {title}\n",
            "| metric | in Prometheus | unit | labels | |",
            "|---|---|---|---|---|",
        ]
        parts += map(_row, measures)
    return "\n".join(parts) + "\n"


def _title(measure: Measure) -> str:
    first, second, *_ = measure.name.split(".")
    return _TITLES.get(second if first == "tollmesh" else first, _REST)


def _row(measure: Measure) -> str:
    labels = "<br>".join(f"`{name}`: {meaning}" for name, meaning in measure.labels.items())
    cells = (
        f"`{measure.name}`",
        f"`{in_prometheus(measure)}`",
        measure.unit.strip("{}") if measure.unit != "1" else "",
        labels,
        f"{measure.kind}. {measure.description}",
    )
    return f"| {' | '.join(cells)} |"


def in_prometheus(measure: Measure) -> str:
    """Return the name that Prometheus shows. A gauge's name ends in its unit already."""
    name = measure.name.replace(".", "_")
    if measure.kind is MeasureKind.COUNTER:
        return f"{name}_total"
    if measure.kind is MeasureKind.DURATION:
        return name + _SUFFIX.get(measure.unit, "")
    return name


if __name__ == "__main__":
    sys.exit(main())
