"""Clients that need environments of their own: `make test-clients`."""
