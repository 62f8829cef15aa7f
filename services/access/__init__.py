"""Who may call: makes, lists and revokes API keys. Resolving a key is the runtime's work, in every process."""
