"""Device, ranks, named randomness, tensor files and the range of pixels: what every other room of `gan_core` stands on."""
