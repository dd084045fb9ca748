"""Batches of transformed images, read in threads or processes."""
