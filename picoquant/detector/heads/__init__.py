"""Heads: feature maps in, class scores and box distances out; and the loss of both."""
