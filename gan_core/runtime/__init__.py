"""Device, ranks, named randomness, schedules, tensor files and the range of pixels."""
