"""YAML configuration files: loading, `_BASE_` files, overrides, shipped files."""
