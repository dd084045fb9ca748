"""Necks: feature maps of a backbone in, one map a stride out, all of one width."""
