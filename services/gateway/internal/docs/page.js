// Starts the page at /docs on the description that the same facade serves.
window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  docExpansion: "none",
  defaultModelsExpandDepth: 0,
  filter: true,
  showCommonExtensions: true,
  displayRequestDuration: true,
  tryItOutEnabled: false,
  persistAuthorization: false, // a key stays in this page, and goes with it
  validatorUrl: null, // nothing is told to anybody else
});
