"""Read and write files of weights without running code in them; independent of networks and of paddle."""
