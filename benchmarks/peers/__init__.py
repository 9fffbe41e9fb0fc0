"""Training loops that `benchmarks.training` compares with ours."""
