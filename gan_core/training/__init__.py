"""Algorithm 1: the loop, a step, its batches, the state, and how they are executed and watched."""
