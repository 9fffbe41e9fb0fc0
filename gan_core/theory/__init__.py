"""The theory of 2014 on known densities: divergences, D*, densities, and training on them."""
