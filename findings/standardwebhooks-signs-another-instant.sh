#!/bin/sh
# standardwebhooks 1.1.0 (Python): `sign` takes a datetime and forgets its zone: noon at +05:00 is signed as noon in UTC, five hours
# off, so one instant has as many signatures as zones to write it in. standardwebhooks 1.1.1 (JavaScript), asked the same, gives one.
# A message whose header tells the real second is then refused, by the package that signed it as well, and the sender,
# whose clock is right, finds nothing wrong. In UTC, where one tests, it works.
set -eu
command -v npm >/dev/null || { echo "needs Node.js"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check standardwebhooks==1.1.0
cd "$work"
npm install --silent --no-audit --no-fund standardwebhooks@1.1.1 >/dev/null
cat >sign.mjs <<'JS'
import { Webhook } from "standardwebhooks";
const key = Buffer.from("a key of an example, of 32 bytes").toString("base64");
for (const written of ["2026-03-05T07:00:00+00:00", "2026-03-05T12:00:00+05:00"])
  console.log(new Webhook(key).sign("msg_1", new Date(written), "{}"));
JS
node sign.mjs >theirs.txt
"$work/venv/bin/python" - <<'PY'
import base64
import datetime

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

webhook = Webhook(base64.b64encode(b"a key of an example, of 32 bytes").decode())
instants = [datetime.datetime.fromisoformat(text) for text in ("2026-03-05T07:00:00+00:00", "2026-03-05T12:00:00+05:00")]
ours = [webhook.sign("msg_1", instant, "{}") for instant in instants]
theirs = open("theirs.txt").read().split()
print("one instant:", instants[0] == instants[1], "| JavaScript, one signature:", theirs[0] == theirs[1], "| Python:", ours[0] == ours[1])
assert instants[0] == instants[1] and theirs[0] == theirs[1] == ours[0] != ours[1]
now = datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=5)))
headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp()))}
for zone in (datetime.timezone.utc, now.tzinfo):
    signature = webhook.sign("msg_1", now.astimezone(zone), "{}")
    try:
        webhook.verify("{}", headers | {"webhook-signature": signature})
        verdict = "accepted"
    except WebhookVerificationError as refusal:
        verdict = f"refused: {refusal}"
    print(f"signed at {zone}, verified by the same package: {verdict}")
    assert verdict.startswith("accepted") == (zone is datetime.timezone.utc)
PY
echo "as described"
