"""Filters removed from convolutions, with every channel that depends on them."""
