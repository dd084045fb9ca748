"""The one place that turns YAML into settings."""
