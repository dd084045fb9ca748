"""Large data sets: read in parts, as columns, by several processes."""
