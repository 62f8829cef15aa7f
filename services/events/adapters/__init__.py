"""What the event service does outside of itself: other processes that check, other hosts that are sent to."""
