"""Run a loaded artifact: sessions, self-test, versions, admission control and batching."""
