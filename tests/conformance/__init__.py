"""Generated requests whose outcome is known without the service's code: `make conformance`."""
