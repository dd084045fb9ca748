"""Training of the FP32 detector: schedule, EMA, state, training loop. Importing it imports no paddle."""
