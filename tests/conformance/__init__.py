"""Generated requests, and expected outcomes computed without the service's code."""
