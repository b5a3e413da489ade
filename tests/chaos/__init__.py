"""Kills, hot swaps and other faults at random moments: `make chaos`."""
