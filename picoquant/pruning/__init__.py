"""Pruning: weights that become 0 while a network trains, and filters that are removed from it."""
