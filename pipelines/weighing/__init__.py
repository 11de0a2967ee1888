"""What a model's weights take, read off its files."""
