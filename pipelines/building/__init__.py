"""How a tool environment is built from its lock file."""
