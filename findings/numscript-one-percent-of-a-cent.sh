#!/bin/sh
# github.com/formancehq/numscript 0.2.0 (Go): of shares that do not divide evenly, what rounding leaves goes to the first lines,
# whatever their size. `1% to @fee` of one cent takes the whole cent, and of 1.50 it is 0.02; "remaining", written last, gets
# what is left after that. The same two lines in the other order, with 99 % named, leave the fee nothing. By largest
# remainder the fee would be 0 of 0.01 in both. A percentage that is written first is rounded up at every sale.
set -eu
command -v go >/dev/null || { echo "needs Go"; exit 1; }
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
GOPATH="$work/go" GOBIN="$work" go install github.com/formancehq/numscript/cmd/numscript@v0.2.0 >/dev/null 2>&1
posted() {
	printf 'send [USD/2 %s] (\n  source = @world\n  destination = {\n    %s\n    %s\n  }\n)\n' "$1" "$2" "$3" >sale.num
	printf '{"balances":[],"variables":{}}' >sale.num.inputs.json
	./numscript run sale.num --output-format json >out.json
	python3 -c 'import json; print(*("{destination}={amount}".format(**each) for each in json.load(open("out.json"))["postings"]))'
}
seen="$(posted 1 '1% to @fee' 'remaining to @seller') | $(posted 1 '99% to @seller' 'remaining to @fee') | $(posted 150 '1% to @fee' 'remaining to @seller')"
echo "$seen"
test "$seen" = "fee=1 | seller=1 | fee=2 seller=148"
echo "as described"
