"""What metering does behind its calls: ordinals are given, holds end. Nobody who sends events waits for it."""
