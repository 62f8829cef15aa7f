"""How usage may be asked for on the command line."""

HELP = "sum, count, max, min, avg, latest, unique, weighted_sum, p50, p95 or p99"
