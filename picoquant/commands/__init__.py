"""What a person asks of a finished run."""
