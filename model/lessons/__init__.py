"""The same fit written six ways, and a comparison of them. Start with formulations.py."""
