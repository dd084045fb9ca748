"""Small helpers that know nothing of picoquant's subject."""
