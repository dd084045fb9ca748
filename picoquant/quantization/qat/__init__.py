"""Quantisation-aware training with distillation."""
