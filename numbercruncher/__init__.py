"""The number cruncher: snapshots of listings in, tables of results out. Runs apart from Dagster."""
