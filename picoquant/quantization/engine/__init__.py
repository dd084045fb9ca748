"""The network that quantisation trains and observes: the operators of a program, run by Paddle's own functions."""
