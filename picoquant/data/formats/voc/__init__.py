"""Data sets in Pascal VOC's format."""
