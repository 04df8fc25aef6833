"""How the outside is reached, one folder a system: S3, Postgres, SageMaker, Docker, Spark, alerts.

None knows of digits or listings. What the platform decides comes as arguments and fields. Where the
systems are, and as whom they are reached, their own clients read from the environment (`AWS_…`,
`PG…`, `DOCKER_HOST`, proxies), and so does what hands that on: `docker/aws_access.py`,
`docker/process.py`, `spark/resource.py`, `s3/run_logs.py`. Where a platform's setting is what to
correct, messages name it (`PLATFORM_…`).
"""
