"""What is in a data set, and what of it stops or spoils a training."""
