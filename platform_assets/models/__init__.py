"""What pipelines of models have in common: training once, a gate, people's decisions, an endpoint.

Nothing here knows digits: what is special about a pipeline is its `ServedModels`
(`served_models.py`).
"""
