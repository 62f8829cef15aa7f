"""A process of the mesh: what it starts, serves and stops, and how it says that it works."""
