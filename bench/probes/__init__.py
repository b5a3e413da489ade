"""Requests whose one right outcome is known without the service's code: the kinds of bench/probe.py, and how they are judged."""
