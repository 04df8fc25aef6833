"""Apache Spark: applications on a cluster's master, or on EMR Serverless."""

from resources.spark.errors import SparkNotSetUpError, SparkRunError
from resources.spark.resource import SparkResource

__all__ = ["SparkNotSetUpError", "SparkResource", "SparkRunError"]
