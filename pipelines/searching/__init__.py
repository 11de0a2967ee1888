"""Explores a declared space of configs: the planner rules out, early looks prune, Optuna proposes."""
