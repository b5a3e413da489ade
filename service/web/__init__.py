"""The Flask application: routes, request path, access control, OpenAPI document and pages."""
