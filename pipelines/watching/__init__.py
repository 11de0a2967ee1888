"""New checkpoints: found, remembered by their bytes, each carried through the config once and in order."""
