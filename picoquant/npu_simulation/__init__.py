"""An INT8 network computed with the integer rules of a target, to know its mAP before there is a board.

A simulation: docs/simulation.md says what is computed, and what of it has a public source.
"""
