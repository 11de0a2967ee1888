"""How runs get into MLflow: what the orchestrator says of them, and what their writer's process makes of it."""
