"""Heads: compute class scores and box distances from feature maps, and the loss of both."""
