// Package docs holds the page at /docs: the description of the facade, to be read and tried in a browser. Everything that
// it loads is here.
package docs

import _ "embed"

// Policy is the Content-Security-Policy of the page: nothing comes from elsewhere, and nothing goes there.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

var (
	//go:embed index.html
	page []byte
	//go:embed page.js
	script []byte
	//go:embed swagger-ui/swagger-ui-bundle.js
	bundle []byte
	//go:embed swagger-ui/swagger-ui.css
	style []byte
	//go:embed swagger-ui/LICENSE
	licence []byte
	//go:embed swagger-ui/swagger-ui-bundle.js.LICENSE.txt
	others []byte
)

// File is one that is served.
type File struct {
	ContentType string
	Content     []byte
}

// Files are all of them, by path. The licences are among them, since the bundle refers to them.
var Files = map[string]File{
	"/docs":                                  {"text/html; charset=utf-8", page},
	"/docs/page.js":                          {"text/javascript; charset=utf-8", script},
	"/docs/swagger-ui-bundle.js":             {"text/javascript; charset=utf-8", bundle},
	"/docs/swagger-ui.css":                   {"text/css; charset=utf-8", style},
	"/docs/LICENSE":                          {"text/plain; charset=utf-8", licence},
	"/docs/swagger-ui-bundle.js.LICENSE.txt": {"text/plain; charset=utf-8", others},
}
