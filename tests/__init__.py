"""Tests of the packages, and end-to-end tests of the whole project."""
