"""A mesh under test: in the test's own loop, as a process, behind its facade, and what cuts it off."""
