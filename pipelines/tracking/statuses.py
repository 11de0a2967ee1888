"""Which of MLflow's statuses a run, a stage, a search and a trial end in."""

RUN = {"passed": "FINISHED", "halted": "FAILED", "failed": "FAILED", "interrupted": "KILLED"}
STAGE = {"completed": "FINISHED", "halted": "FAILED", "failed": "FAILED"}
SEARCH = {"found": "FINISHED", "nothing within budget": "FAILED", "interrupted": "KILLED"}
TRIAL = {"passed": "FINISHED", "over budget": "FAILED", "pruned": "FINISHED", "failed": "FAILED"}
