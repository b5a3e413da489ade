"""The Flask application: routes, predictions, access control, OpenAPI document and pages."""
