#!/bin/sh
# iso8601 0.6.6 (Rust): of a duration only seconds may have decimals. Minutes and hours that have some are dropped: `PT0.5M`, half a
# minute, and `PT1.5H` are both a duration of zero, and neither is an error, while `P0.5D` is one. iso8601-duration 0.2.0
# (Rust), asked the same, says 30 s and 5400 s. A timeout of half a minute from a configuration has passed at once.
set -eu
command -v cargo >/dev/null || { echo "needs Rust"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cargo init --quiet --name durations . 2>/dev/null
cargo add --quiet iso8601@=0.6.6 iso8601-duration@=0.2.0 2>/dev/null
cat >src/main.rs <<'RS'
use std::time::Duration;

fn main() {
    let mut seen = Vec::new();
    for text in ["PT0.5M", "PT1.5H", "PT1.5S", "P0.5D"] {
        let one = iso8601::duration(text).map(Duration::from).map(|d| d.as_secs_f64());
        let other = iso8601_duration::Duration::parse(text).ok().and_then(|d| d.to_std()).map(|d| d.as_secs_f64());
        let one = one.map_or("refused".to_string(), |s| format!("{s} s"));
        seen.push(format!("{text}: {one}, the other {} s", other.unwrap()));
    }
    println!("{}", seen.join("\n"));
    let expected = ["PT0.5M: 0 s, the other 30 s", "PT1.5H: 0 s, the other 5400 s", "PT1.5S: 1.5 s, the other 1.5 s", "P0.5D: refused, the other 43200 s"];
    assert_eq!(seen, expected);
}
RS
cargo run --quiet
echo "as described"
