"""Events to come: timers, which become an event once, and schedules, which do so again and again."""
