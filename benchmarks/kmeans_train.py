"""The embedded trainer's k-means on 50,000 × 784 with k = 10, against a full Lloyd run.

Both cluster the same digits in memory and on one thread, which is what the embedded trainer has;
the mean squared distances of what they find must be within two percent of each other.
"""

from benchmarks.harness import ONE_THREAD, Benchmark, script

BENCHMARK = Benchmark(
    name="kmeans_train",
    reference_name='scikit-learn, KMeans(10, algorithm="lloyd", n_init=1), one thread',
    ours=script("kmeans_ours.py", **ONE_THREAD),
    reference=script("kmeans_lloyd.py", **ONE_THREAD),
    tolerance=0.02,
)
