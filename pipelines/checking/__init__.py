"""What keeps a config from being carried out here, by what it is about: each check yields place, message and hint."""
