"""What the store is made of: objects, entries, work folders, digests, pruning."""
