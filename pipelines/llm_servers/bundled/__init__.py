"""Programs that are copied into bundles. They know nothing of Tapeout: there may be none where they run."""
