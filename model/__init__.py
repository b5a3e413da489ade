"""Fit a TwoLayerNet to rows of numbers. Needs torch; knows nothing of export and service."""
