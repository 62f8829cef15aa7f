"""A process of the mesh: what it serves, whether it is ready, how it ends."""
