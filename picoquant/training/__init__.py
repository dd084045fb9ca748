"""Training the FP32 detector: schedules, EMA, checkpoints, the loop. Importing it imports no paddle."""
