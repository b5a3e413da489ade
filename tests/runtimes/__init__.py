"""The artifact's graph in other runtimes: `make runtimes`."""
