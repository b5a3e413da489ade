"""The protocols: pure functions from request bytes to rows and from outputs to reply bytes."""
