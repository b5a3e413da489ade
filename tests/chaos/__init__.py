"""Kills and hot swaps at random moments: `make chaos`."""
