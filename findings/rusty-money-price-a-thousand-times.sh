#!/bin/sh
# rusty-money 0.5.1 (Rust): how a plain decimal text is read hangs on the currency. `Money::from_str("0.125", …)` is 0.125 for USD,
# GBP and CHF, and 125 for EUR and BRL, whose point it takes for one between thousands, while 10.99 EUR, which is
# what `amount()` prints of 1099 euro cents, is an error. A list of unit prices is charged a thousand times over where it has three
# decimals, and refused where it has two.
set -eu
command -v cargo >/dev/null || { echo "needs Rust"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cargo init --quiet --name prices . 2>/dev/null
cargo add --quiet rusty-money@=0.5.1 2>/dev/null
cat >src/main.rs <<'RS'
use rusty_money::{iso, Money};

fn main() {
    let mut seen = Vec::new();
    for currency in [iso::USD, iso::GBP, iso::CHF, iso::EUR, iso::BRL] {
        let read = |text: &str| Money::from_str(text, currency).map_or("refused".to_string(), |m| m.amount().to_string());
        seen.push(format!("{currency}: 0.125 is {}, 10.99 is {}", read("0.125"), read("10.99")));
    }
    assert_eq!(Money::from_minor(1099, iso::EUR).amount().to_string(), "10.99");
    println!("{}", seen.join("\n"));
    for (index, line) in seen.iter().enumerate() {
        let expected = if index < 3 { "0.125 is 0.125, 10.99 is 10.99" } else { "0.125 is 125.00, 10.99 is refused" };
        assert!(line.ends_with(expected), "{line}");
    }
}
RS
cargo run --quiet
echo "as described"
