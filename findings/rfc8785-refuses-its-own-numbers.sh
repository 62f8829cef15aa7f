#!/bin/sh
# rfc8785 0.1.4 (Python): the canonical JSON that it writes for 1e16 is `10000000000000000`; read back by any JSON parser that is an
# integer, and written again it is refused as beyond the safe domain. canonicalize 4.0.0 (JavaScript) and jcs 0.2.1
# (Python), asked the same, write the same bytes each time. Who checks a signature by canonicalising what was
# received cannot check an amount of 10^16 that the same library has signed.
set -eu
command -v npm >/dev/null || { echo "needs Node.js"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check rfc8785==0.1.4 jcs==0.2.1
cd "$work"
npm install --silent --no-audit --no-fund canonicalize@4.0.0 >/dev/null
cat >again.mjs <<'JS'
import canonicalize from "canonicalize";
const first = canonicalize({ amount: 1e16 });
console.log(canonicalize(JSON.parse(first)) === first ? first : "differs");
JS
theirs=$(node again.mjs)
"$work/venv/bin/python" - "$theirs" <<'PY'
import json
import sys

import jcs
import rfc8785

first = rfc8785.dumps({"amount": 1e16})
print("rfc8785:", first.decode(), "| canonicalize:", sys.argv[1], "| jcs:", jcs.canonicalize(json.loads(first)).decode())
assert first.decode() == sys.argv[1] == jcs.canonicalize(json.loads(first)).decode()
try:
    rfc8785.dumps(json.loads(first))
except rfc8785.IntegerDomainError as refusal:
    print("rfc8785, again:", refusal)
else:
    raise SystemExit("it is written again")
PY
echo "as described"
