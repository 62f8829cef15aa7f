"""Journeys: work that waits for events and for time, as state rows that are advanced in one transaction."""
