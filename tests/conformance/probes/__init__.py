"""Requests whose one right outcome is known without the service's code, and how the replies to them are judged."""
