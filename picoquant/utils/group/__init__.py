"""The processes of `paddle.distributed.launch`, on one host or several: how they meet and notice a loss."""
