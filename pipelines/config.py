"""YAML -> frozen PipelineConfig."""
