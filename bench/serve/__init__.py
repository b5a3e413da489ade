"""Benchmarks of the service and of comparable servers, one worker on one core each."""
