"""Apache Spark: applications on a cluster's master, or on EMR Serverless."""

from resources.spark.resource import SparkNotSetUpError, SparkResource, SparkRunError

__all__ = ["SparkNotSetUpError", "SparkResource", "SparkRunError"]
