"""Training steps computed by oneDNN's primitives directly, without a framework between them."""
