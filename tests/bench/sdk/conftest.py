"""Metering in a process of its own, as the benches of metering have it."""

from __future__ import annotations

from tests.bench.metering.conftest import bench

__all__ = ["bench"]
