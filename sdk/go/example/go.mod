module tollmesh.dev/sdk/go/example

go 1.24.0

require (
	google.golang.org/grpc v1.79.1
	google.golang.org/protobuf v1.36.11
	tollmesh.dev/gen/go v0.0.0
)

require (
	github.com/grpc-ecosystem/grpc-gateway/v2 v2.28.0 // indirect
	golang.org/x/net v0.48.0 // indirect
	golang.org/x/sys v0.39.0 // indirect
	golang.org/x/text v0.34.0 // indirect
	google.golang.org/genproto/googleapis/api v0.0.0-20260209200024-4cfbd4190f57 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260209200024-4cfbd4190f57 // indirect
)

replace tollmesh.dev/gen/go => ../../../gen/go
