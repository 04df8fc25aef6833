"""50,000 × 784 with labels to RecordIO-protobuf, against SageMaker's own SDK.

Both write to a temporary file: what is uploaded has to be somewhere, and a file holds it without
counting as memory on either side.
"""

from benchmarks.harness import Benchmark, script, script_in

BENCHMARK = Benchmark(
    name="recordio_encode",
    reference_name="sagemaker<3, sagemaker.amazon.common.write_numpy_to_dense_tensor",
    ours=script("recordio_ours.py"),
    rounds=5,
    reference=script_in("sagemaker2", ["sagemaker<3"], "recordio_sagemaker2.py"),
)
