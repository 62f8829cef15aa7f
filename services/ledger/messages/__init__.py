"""Proto and domain, in one place for servicer, store and facts."""
