#!/bin/sh
# ach 0.2 (Python): of a payment in a batch of class CTX the name of who is paid is left out: its place in the file is blank, and the
# count of addenda before it is 0000 although one follows and is announced. The same payment as PPD or CCD has its name. No
# error at any step, and the file's own parser takes the count for the name. A bank that matches names or counts
# addenda, as the layout of CTX asks, returns every payment of the batch.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ach==0.2
"$work/venv/bin/python" -W ignore - <<'PY'
from ach.builder import AchFile
from ach.parser import Parser

settings = {
    "immediate_dest": "123456780",
    "immediate_org": "123456780",
    "immediate_dest_name": "BANK",
    "immediate_org_name": "COMPANY",
    "company_id": "1234567890",
}
payment = {
    "type": "22",
    "routing_number": "12345678",
    "account_number": "11232132",
    "amount": "10.00",
    "name": "ANN SAMPLE",
    "addenda": [{"payment_related_info": "INVOICE 17"}],
}
for kind in ("PPD", "CCD", "CTX"):
    file = AchFile("A", settings)
    file.add_batch(kind, [dict(payment)], credits=True, debits=False)
    text = file.render_to_string()
    entry, addendum = text.splitlines()[2:4]
    read = Parser(text).as_dict()["batches"][0]["entries"][0]["entry_detail"]["ind_name"].strip()
    print(f"{kind}: columns 55 to 76 are {entry[54:76]!r}, addenda announced: {entry[78]}, read as {read!r}")
    assert entry[78] == "1" and addendum.startswith("705INVOICE 17"), text
    assert read == ("0000" if kind == "CTX" else "ANN SAMPLE"), (kind, read)
    if kind == "CTX":
        assert entry[54:58] == "0000" and not entry[58:76].strip(), entry
PY
echo "as described"
