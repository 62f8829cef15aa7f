#!/bin/sh
# cloudevents 2.2.0 (Python): the constructor of an event writes `id` and `time` into the dict of attributes that the caller
# passed. Whoever keeps a dict as a template for several events gives all of them one id and one time after the first, and a
# receiver that drops repeated ids, as the specification allows, drops all but one.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check cloudevents==2.2.0
"$work/venv/bin/python" - <<'PY'
from cloudevents.core.v1.event import CloudEvent

template = {"type": "invoice.paid", "source": "/billing"}
before = set(template)
events = [CloudEvent(template, {"number": number}) for number in (1, 2)]
print("written into the caller's dict:", sorted(set(template) - before))
print("ids:", [event.get_id() for event in events])
assert {"id", "time"} <= set(template) - before, template
assert events[0].get_id() == events[1].get_id()
PY
echo "as described"
