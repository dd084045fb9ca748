"""Processes that do a share of the work on one machine, where Python computes on one processor only."""
