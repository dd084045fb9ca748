"""Which parts of a model run on an NPU, read from opt's output: subgraphs, rules, cost, picture."""
