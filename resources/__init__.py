"""How the outside is reached: S3, Postgres, SageMaker and Docker, one module or folder a system.

None knows of digits or listings, and none reads the environment but `settings.py`.
"""
