"""What a config can say besides its steps: the model's source, the data, the evaluation."""
