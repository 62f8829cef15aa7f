"""Usage, catalogues, money: data of the services, and books to compare."""
