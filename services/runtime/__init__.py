"""What every service stands on: server, channels, database, identity, errors, telemetry, events.

It knows no service. Its tables live in schema `mesh`, which is installed in every database that a
service uses.
"""
