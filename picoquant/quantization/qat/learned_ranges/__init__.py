"""How the ranges of quantised activations are found during training: moving averages, PACT or LSQ."""
