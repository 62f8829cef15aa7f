// Written by tools/generate.py. The versions that count are those of services/gateway/go.mod.
module tollmesh.dev/gen/go

go 1.24
