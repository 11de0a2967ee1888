"""The servers that a team looks at and a worker that runs deployments: started, watched and stopped together."""
