"""Paddle's own inference runtime."""
