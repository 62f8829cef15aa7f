"""The rules of settlement: who has earned what, what of it is paid when."""
