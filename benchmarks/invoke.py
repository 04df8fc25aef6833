"""Asking an endpoint of the embedded SageMaker with boto3, against the same work without a server.

The reference does the bare computation in the caller's process, so the ratio is below one: what
share of that speed is left once requests are signed, sent, checked, answered and read. The seconds
are those of 40,000 digits in batches of 1,000; `p50_ms` is one digit a request, 10,000 times, and
`server_before_mb` and `server_after_mb` are the server with its children around these.
"""

from benchmarks.harness import ONE_THREAD, Benchmark, script

BENCHMARK = Benchmark(
    name="invoke",
    reference_name=(
        "scikit-learn, pairwise_distances_argmin in the caller's own process on one thread: "
        "no request at all"
    ),
    ours=script("invoke_ours.py"),
    reference=script("invoke_reference.py", **ONE_THREAD),
    rounds=2,
    services=True,
)
