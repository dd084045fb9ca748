"""Programs in Python that packages hold, each by itself beside its model, and what READMEs say of them."""
