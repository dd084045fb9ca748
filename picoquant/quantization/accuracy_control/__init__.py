"""Layers in floating point: which ones an accuracy goal needs, and what those chosen by the user cost."""
