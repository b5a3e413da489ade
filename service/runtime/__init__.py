"""A loaded artifact: its session, self-test, versions, admission control and batching. No HTTP."""
