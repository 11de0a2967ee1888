"""One file per command of `tapeout`; each imports what is heavy when it runs."""
