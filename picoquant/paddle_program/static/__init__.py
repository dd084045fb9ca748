"""Paddle's static programs: loading, editing, running and saving them."""
