#!/bin/sh
# py-moneyed 3.0: Money.get_amount_in_sub_unit, which gives what processors want, minor units as an integer, cuts off what is
# below a minor unit instead of rounding or refusing it: 1.999 USD becomes 199 cents, and -1.999 USD -199. So does an amount
# that its own arithmetic made: a third of 200.00 USD, three times, is 19,998 cents and not 20,000, and 8.25 % of 19.99 USD is
# 164 cents, where Money.round gives 1.65.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check py-moneyed==3.0 babel==2.19.0
"$work/venv/bin/python" - <<'PY'
from moneyed import USD, Money

cut = [Money(text, USD).get_amount_in_sub_unit() for text in ("1.999", "-1.999")]
third = (Money("200.00", USD) / 3).get_amount_in_sub_unit()
tax = Money("19.99", USD) * 825 / 10_000
print("1.999 and -1.999 USD in cents:", cut)
print("three thirds of 200.00 USD in cents:", 3 * third)
print("8.25 % of 19.99 USD in cents:", tax.get_amount_in_sub_unit(), "rounded:", tax.round(2))
assert cut == [199, -199]
assert 3 * third == 19_998
assert (tax.get_amount_in_sub_unit(), str(tax.round(2).amount)) == (164, "1.65")
PY
echo "as described"
