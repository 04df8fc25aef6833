"""A SageMaker that trains and serves on this machine; README.md says what it can do."""
