"""How bytes look: pure functions between bytes and plain data or NumPy arrays.

Belongs here: the formats that digits travel in (RecordIO-protobuf, MXNet NDArray files, the public
MNIST pickle, pictures), and the manifest of published files. Does not belong here: I/O of any
kind, settings, Dagster; nothing of ours is imported. Everything that reads treats its input as
hostile and raises a `ValueError` of its own.
"""
