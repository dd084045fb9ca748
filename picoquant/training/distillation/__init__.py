"""Training in FP32 beside a larger detector, the teacher."""
