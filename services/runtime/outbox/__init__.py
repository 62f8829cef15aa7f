"""What a unit of work writes beside its state: facts, and timers that become facts."""
