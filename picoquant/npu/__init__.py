"""What of a model runs on an NPU, read from opt's own result: pieces, conversions, rules, cost, pictures."""
