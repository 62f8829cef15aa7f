"""Price models, one a file; `table` registers each by its oneof name."""
