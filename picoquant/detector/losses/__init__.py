"""Losses: pure functions of predictions and targets that return one loss per element."""
