"""The Postgres of a test run, and what stands between it and a mesh."""
