"""How the outside is reached: S3, Postgres, SageMaker and Docker, one folder a system.

None knows of digits or listings, and none reads the environment.
"""
