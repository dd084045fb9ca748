"""Tools outside this package: finding them, installing them, running them. Imports nothing heavy."""
