"""A run as one self-contained HTML page: it needs no network, no script and no other file."""
