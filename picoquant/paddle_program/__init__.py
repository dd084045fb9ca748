"""Paddle inference programs: read, check, edit, run, write."""
