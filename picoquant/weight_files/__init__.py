"""Files of weights, read and written without running anything in them. Knows no network; imports no paddle."""
