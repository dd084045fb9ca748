"""Activation ranges that training learns."""
