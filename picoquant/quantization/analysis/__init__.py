"""What INT8 costs: of each layer alone, accumulated, and of each tensor."""
