// Package openapi holds the description of the REST facade.
package openapi

import _ "embed"

// Description is OpenAPI 3.1, as JSON.
//
//go:embed tollmesh.openapi.json
var Description []byte
