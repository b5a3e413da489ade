"""The artifact on disk: its manifest, hashes and tensors. Needs the standard library alone."""
