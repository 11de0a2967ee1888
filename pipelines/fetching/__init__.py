"""How a model's files get here: packages, paths, hubs, addresses, archives."""
