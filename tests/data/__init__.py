"""Stored artifacts and tables for the tests, and the script that makes them."""
