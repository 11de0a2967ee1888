"""Which lever, in what order, and when to stop: worked out from shapes and a catalogue, no tool imported."""
