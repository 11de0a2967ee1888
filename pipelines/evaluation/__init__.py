"""Measurements over an open session: numpy only, the same for every runtime."""
