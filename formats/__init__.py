"""How bytes and texts from outside look: formats and protocols that several folders share.

Files of digits (RecordIO-protobuf, MXNet NDArray, the public MNIST pickle, pictures), the manifest
of published files, addresses (DSNs, S3 URIs), and what servers require of HTTP requests
(`http_limits`, `browser_guard`). Nothing here opens a file or a connection, reads settings, or
knows Dagster; no other folder of ours is imported. Everything that reads treats its input as
hostile, and what is no such format is a `ValueError`.

Links in `sagemaker_local/formats` make some of these modules a part of that package, too: those
import each other relatively.
"""
