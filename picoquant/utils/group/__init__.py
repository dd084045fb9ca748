"""The processes of `paddle.distributed.launch`, on one host or several: how they meet, and how the loss of one is noticed."""
