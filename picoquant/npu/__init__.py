"""Which parts of a model run on an NPU, read from opt's output: subgraphs, conversions, rules, cost, picture."""
