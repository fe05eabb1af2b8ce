"""WDSR super-resolution in JAX and Flax."""
