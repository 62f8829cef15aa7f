"""The `tollmesh` command: for engineers at a terminal, and with `--output json` for programs."""
