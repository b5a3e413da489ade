"""Tests of service.protocols."""
