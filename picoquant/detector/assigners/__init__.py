"""Label assignment: which anchor point learns which object. Pure functions without gradients."""
