"""One file a noun; each registers its commands on a typer app."""
