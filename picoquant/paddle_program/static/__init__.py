"""Paddle's static programs: loaded, run, changed, saved."""
