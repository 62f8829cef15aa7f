"""Usage that outlives outages, and what becomes of each event; then what was used, by the hour."""

import sys
import tempfile
from datetime import datetime, timedelta, timezone
from uuid import uuid4

from payments_sdk.payments.metering.v1 import QueryUsageRequest, UsageEvent, Window
from payments_sdk.payments.type.v1 import Period
from tollmesh_client import Client, SpoolOptions, UsageIngester, Verdict


def on_verdict(verdict: Verdict) -> None:
    """Look at what was not accepted: REJECTED and CONFLICT need somebody to do something."""
    print(f"{verdict.outcome} {verdict.reason}: {verdict.request_id}")


# A directory that stays, on a disk of this machine: the next start sends what this one could not.
directory = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
hour = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0)
# The id is the event's for ever: sent again, with it, it is a duplicate.
run = uuid4()
with Client() as client:
    with UsageIngester(client, spool=SpoolOptions(directory), on_verdict=on_verdict) as ingester:
        for number in range(5):
            event = UsageEvent(
                request_id=f"call-{run}-{number}",
                org_id="example-python",
                sku="example.calls",
                quantity="1",
            )
            event.event_time = hour + timedelta(seconds=number)
            ingester.add(event)
        wrong = UsageEvent(
            request_id=f"call-{run}-x",
            org_id="example-python",
            sku="no.such.sku",
            quantity="1",
            event_time=hour,
        )
        ingester.add(wrong)
    period = Period(start_at=hour - timedelta(days=1), end_at=hour + timedelta(hours=1))
    asked = QueryUsageRequest(org_id="example-python", period=period, window=Window.HOUR)
    for row in client.metering.query_usage(asked).rows:
        print(f"{row.window_start_at:%H:%M} {row.sku} {row.value} in {row.event_count} events")
