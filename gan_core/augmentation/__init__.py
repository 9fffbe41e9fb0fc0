"""Random transforms of what a discriminator is trained on, differentiable in the image, so that few images suffice."""
