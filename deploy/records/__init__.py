"""Commands on Dagster's records, the database of deploy/dagster.yaml. README.md has their use."""
