"""Simulation of an INT8 network in a target's integer arithmetic."""
