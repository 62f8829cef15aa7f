#!/bin/sh
# cloudevents 10.0.0 (JavaScript): an event whose data is 0, false or an empty text, sent whole in structured mode (`"data":0`
# stands in the body), is read as an event without data: 5, true and {} survive. cloudevents 2.2.0 (Python), asked the same, gives
# all six. A balance that fell to 0 or a switch that was turned off arrives as an event that says nothing, with no error.
set -eu
command -v npm >/dev/null || { echo "needs Node.js"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check cloudevents==2.2.0
cd "$work"
npm install --silent --no-audit --no-fund --no-package-lock cloudevents@10.0.0
cat >read.js <<'JS'
const assert = require("assert");
const { HTTP } = require("cloudevents");

function structured(data) {
  const event = { specversion: "1.0", id: "1", type: "balance", source: "/ledger", datacontenttype: "application/json", data };
  const headers = { "content-type": "application/cloudevents+json" };
  return HTTP.toEvent({ headers, body: JSON.stringify(event) }).data;
}
const sent = [5, true, {}, 0, false, ""];
for (const data of sent) console.log("data", JSON.stringify(data), "read as", JSON.stringify(structured(data)));
assert.deepStrictEqual(sent.map(structured), [5, true, {}, undefined, undefined, undefined]);
JS
node read.js
"$work/venv/bin/python" - <<'PY'
import json

from cloudevents.core.bindings.http import HTTPMessage, from_http_event

sent = [5, True, {}, 0, False, ""]
event = {"specversion": "1.0", "id": "1", "type": "balance", "source": "/ledger", "datacontenttype": "application/json"}
headers = {"content-type": "application/cloudevents+json"}
read = [from_http_event(HTTPMessage(headers, json.dumps({**event, "data": data}).encode())).get_data() for data in sent]
print("read in Python as", *map(json.dumps, read))
assert read == sent, read
PY
echo "as described"
