"""What benchmarks share: the machine, rounds, tables, images and a training configuration."""
