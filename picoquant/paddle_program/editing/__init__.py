"""Programs that are changed as messages, with their stored values as arrays; no Paddle runs."""
