"""What differs between Paddle 2.6 and 3: names, gradients, and a test of what changed without a word."""
