"""The number cruncher on Apache Spark, for snapshots that one machine cannot hold.

The results are those of the container, to the byte: each is made by the same function.
"""
