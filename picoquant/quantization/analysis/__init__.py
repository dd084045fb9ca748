"""What INT8 costs: each layer alone, built up, each tensor."""
