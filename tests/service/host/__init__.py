"""Tests of service.host."""
