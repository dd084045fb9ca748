"""An INT8 network in a target's integers; a simulation, not a board."""
