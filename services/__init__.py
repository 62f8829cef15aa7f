"""The services of Tollmesh: one folder a service, with the same rooms in each."""
