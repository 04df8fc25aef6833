"""scikit-learn, without any server."""

from invoke_input import centroids, measure
from sklearn.metrics import pairwise_distances_argmin

CENTRES = centroids()
watch, digest, figures = measure(
    lambda points: pairwise_distances_argmin(points, CENTRES), singles=1_000
)
watch.say(digest, **figures)
