"""What publishes events, reacts on them, and looks at what came of it."""
