"""Processes of ours that tests start by the hundred."""
