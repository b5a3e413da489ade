"""The fit of a TwoLayerNet: the step, the batches, the loop, devices and checkpoints."""
