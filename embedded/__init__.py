"""One machine in the place of the cloud: up, down, status, demo and the seeds."""
