"""Timers and journeys whose time moves when it is told to."""
