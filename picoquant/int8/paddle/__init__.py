"""An INT8 network as a Paddle program: read and written."""
