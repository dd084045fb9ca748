"""Passes over an INT8 network, a function each: what is found or changed on the way from a float one."""
