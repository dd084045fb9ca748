"""`picoquant data`: look at data sets, convert, split and draw them."""
