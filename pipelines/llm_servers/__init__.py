"""How bundles of language models are served: a script for each kind, and what its engine wants beside the model."""
