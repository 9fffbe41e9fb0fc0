"""Algorithm 1: the loop, a step, its batches, the state, how they are executed, and readings on the way."""
