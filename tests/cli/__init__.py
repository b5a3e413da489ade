"""Tests of the commands' common behaviour: errors, configuration files, staging, progress."""
