"""Device, ranks, named randomness, tensor files and the range of pixels."""
