"""From an INT8 model to what a board runs. Importing this package imports nothing heavy."""
