"""Several configs of a comparison at once: a process each, started by the workers of Prefect's task runners."""
