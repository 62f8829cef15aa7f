#!/bin/sh
# opentelemetry-exporter-prometheus 0.66b2 with opentelemetry-sdk 1.45.2 (Python): two counters named `ledger.entries` and
# `ledger_entries`, different instruments to the SDK, are exposed as two families of one name, each with a sample of the same
# labels: one scrape says that `ledger_entries_total` is 1 and that it is 5. Nothing warns when the second is made, and
# prometheus_client's own parser takes the page and gives both. Whoever joins names with dots in one place and with
# underscores in another gets a series that nobody can trust.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  opentelemetry-exporter-prometheus==0.66b2 opentelemetry-sdk==1.45.2 prometheus-client==0.26.0
"$work/venv/bin/python" -W error - <<'PY'
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

reader = PrometheusMetricReader()
meter = MeterProvider(metric_readers=[reader]).get_meter("meter")
for name, amount in (("ledger.entries", 1), ("ledger_entries", 5)):
    meter.create_counter(name).add(amount)
page = generate_latest().decode()
samples = [
    (sample.labels, sample.value)
    for family in text_string_to_metric_families(page)
    for sample in family.samples
    if sample.name == "ledger_entries_total"
]
print("ledger_entries_total:", [value for _, value in samples])
assert [value for _, value in samples] == [1.0, 5.0], samples
assert samples[0][0] == samples[1][0], "labels tell them apart"
PY
echo "as described"
