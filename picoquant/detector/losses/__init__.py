"""Losses: pure functions, predictions and targets in, a loss an element out."""
