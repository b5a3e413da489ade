"""Third-party clients of a real server: `make test-clients`."""
