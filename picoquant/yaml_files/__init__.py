"""YAML files: bases, overrides, places, hints."""
