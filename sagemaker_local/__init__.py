"""The embedded SageMaker: it trains and serves on this machine. README.md says what it can do."""
