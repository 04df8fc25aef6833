"""50,000 labelled digits to RecordIO-protobuf, in a file, against SageMaker's own SDK."""

from benchmarks.harness import Benchmark, script, script_in

BENCHMARK = Benchmark(
    name="recordio_encode",
    reference_name="sagemaker<3, sagemaker.amazon.common.write_numpy_to_dense_tensor",
    ours=script("recordio_ours.py"),
    reference=script_in("sagemaker2", ["sagemaker<3"], "recordio_sagemaker2.py"),
)
