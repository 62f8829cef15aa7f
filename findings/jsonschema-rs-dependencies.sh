#!/bin/sh
# jsonschema-rs 0.60.3: under draft 2020-12 it heeds `dependencies`, which that draft no longer has (its meta-schema says so in a
# comment; `dependentRequired` and `dependentSchemas` took its place). jsonschema 4.26.0, asked the same, passes it over: one schema,
# one value, two verdicts. What follows for us: references below `dependencies` are counted like those below
# `dependentSchemas` (services/events/domain/expansion.py), and a test asks the validator which keywords it heeds.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check jsonschema-rs==0.60.3 jsonschema==4.26.0
"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

import jsonschema
import jsonschema_rs

schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "dependencies": {"iban": {"required": ["bic"]}},
}
value = {"iban": "DE00"}
verdicts = {
    "jsonschema-rs": jsonschema_rs.Draft202012Validator(schema).is_valid(value),
    "jsonschema": jsonschema.Draft202012Validator(schema).is_valid(value),
}
for name, verdict in verdicts.items():
    print(f"{name} {version(name)}: {'valid' if verdict else 'not valid'}")
assert verdicts == {"jsonschema-rs": False, "jsonschema": True}, verdicts
PY
echo "as described"
