"""Channels made even across layers: which, by how much, and what of it training must know."""
