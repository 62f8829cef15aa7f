"""Schema `metering`, from nothing to now."""
