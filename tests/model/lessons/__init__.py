"""Tests of the formulations lesson."""
