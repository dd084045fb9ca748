"""Target profiles and what they list."""
