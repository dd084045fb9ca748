"""Which parts of a model run on an NPU, read from opt's own output: subgraphs, conversions, rules, cost, pictures."""
