"""The embedded trainer's algorithm with SageMaker's defaults: mini-batches of 5,000."""

from kmeans_input import CLUSTERS, Matrix, compare

from sagemaker_local import kmeans
from sagemaker_local.hyperparameters import KMeansParameters


def train(points: Matrix) -> Matrix:
    """What the trainer does between reading its channel and writing its model."""
    parameters = KMeansParameters(CLUSTERS, points.shape[1])
    size = parameters.mini_batch_size
    batches = [points[start : start + size] for start in range(0, len(points), size)]
    stream = kmeans.Stream(parameters)
    for batch in batches:
        stream.feed(batch)
    return kmeans.refined(lambda: batches, kmeans.shrink(*stream.state(), parameters), len(points))


compare(train)
