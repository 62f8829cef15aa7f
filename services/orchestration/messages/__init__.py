"""Proto and domain, in one place for servicer and facts."""
