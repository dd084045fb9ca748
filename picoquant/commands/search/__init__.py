"""`picoquant quantize --search MINUTES`: settings of a quantisation tried one after the other, the best one kept."""
