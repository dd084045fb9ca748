"""Small general helpers, independent of detection and quantisation."""
