"""Our encoder."""

from recordio_input import compare

from formats import recordio

compare(lambda file, features, labels: file.writelines(recordio.encode(features, labels)))
