"""Transformations: one file per stage, the file name is the name used in a config."""
