#!/bin/sh
# json-logic-js 2.0.5 (JavaScript) and json-logic-qubit 0.9.1 (Python), two implementations of one language for rules: of a customer of whom
# no spending is recorded, `{"<": [{"var": "spent_minor"}, 500]}` is true in the first and false in the second, and so is its
# turn `{">": [500, {"var": "spent_minor"}]}`. In the second every comparison with what is missing is false, `>=` and `<` too, so that
# neither a rule nor its opposite holds. A discount that the browser shows is not the one that the server books.
set -eu
command -v npm >/dev/null || { echo "needs Node.js"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check json-logic-qubit==0.9.1
cd "$work"
npm install --silent --no-audit --no-fund --no-package-lock json-logic-js@2.0.5
cat >rules.json <<'JSON'
[{"<": [{"var": "spent_minor"}, 500]}, {">": [500, {"var": "spent_minor"}]}, {">=": [{"var": "spent_minor"}, 500]}]
JSON
cat >ask.js <<'JS'
const { apply } = require("json-logic-js");
const rules = JSON.parse(require("fs").readFileSync("rules.json", "utf8"));
console.log(JSON.stringify([{ spent_minor: 100 }, {}].map((customer) => rules.map((rule) => apply(rule, customer)))));
JS
node ask.js >javascript
"$work/venv/bin/python" - <<'PY'
import json

from json_logic import jsonLogic

rules = json.load(open("rules.json"))
known, missing = json.load(open("javascript"))
python = [[jsonLogic(rule, customer) for rule in rules] for customer in ({"spent_minor": 100}, {})]
print("spent 100: JavaScript", known, "Python", python[0])
print("missing:   JavaScript", missing, "Python", python[1])
assert known == python[0] == [True, True, False], (known, python)
assert missing == [True, True, False] and python[1] == [False, False, False], (missing, python)
PY
echo "as described"
