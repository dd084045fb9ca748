"""`picoquant init`: a recipe for images of one's own, on this machine."""
