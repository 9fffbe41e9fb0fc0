"""What the theory of 2014 says where densities are known: divergences, densities, and games on them."""
