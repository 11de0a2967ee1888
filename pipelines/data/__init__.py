"""Evaluation and calibration texts: where they come from, how they are read and kept apart."""
