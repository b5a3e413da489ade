"""Tests of the proof of an export."""
