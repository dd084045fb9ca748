"""Label assignment: which anchor point predicts which object. Pure functions without gradients."""
