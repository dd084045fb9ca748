"""click commands, thin: they parse, call the pipeline or a library, and print."""
