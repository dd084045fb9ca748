"""Paddle inference programs: reading, checking, editing, running and writing them."""
