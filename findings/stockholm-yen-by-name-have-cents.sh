#!/bin/sh
# stockholm 0.5.7 (Python): how many decimals a currency has is known to its object and forgotten by its code. 1234 yen are 1234
# sub-units as `Money(1234, JPY)` and 123400 as `Money(1234, "JPY")`, and the two are equal to each other;
# `from_sub_units(1234, "JPY")` is 12.34 JPY. Money that went through the package's own JSON comes back with the code alone, so
# that the same amount is charged a hundred times over after it was stored. For KWD it is a tenth.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check stockholm==0.5.7
"$work/venv/bin/python" - <<'PY'
from stockholm import Money
from stockholm.currency import JPY, KWD

for currency in (JPY, KWD):
    by_object, by_code = Money(1234, currency), Money(1234, currency.ticker)
    stored = Money.from_json(by_object.json())
    print(by_object, "sub-units:", by_object.sub_units, by_code.sub_units, "stored and read:", stored.sub_units, "equal:", by_object == by_code == stored)
    assert by_object == by_code == stored
    assert by_code.sub_units == stored.sub_units == 123400
    assert by_object.sub_units == {"JPY": 1234, "KWD": 1234000}[currency.ticker]
print(Money.from_sub_units(1234, "JPY"), "against", Money.from_sub_units(1234, JPY))
assert str(Money.from_sub_units(1234, "JPY")) == "12.34 JPY"
assert str(Money.from_sub_units(1234, JPY)) == "1234 JPY"
PY
echo "as described"
