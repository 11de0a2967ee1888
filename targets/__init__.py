"""Runtimes: one file per target; a target is a stage that can also open what it made."""
