// Package openapi holds the description of the REST facade.
package openapi

import _ "embed"

// Description is OpenAPI v2, as JSON.
//
//go:embed tollmesh.swagger.json
var Description []byte
