"""A user's script for SageMaker's XGBoost image, as AWS's examples have it."""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import xgboost


def model_fn(model_dir):
    """Loads the model that was trained."""
    booster = xgboost.Booster()
    booster.load_model(Path(model_dir) / "xgboost-model.json")
    return booster


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-depth", type=int)
    parser.add_argument("--pause", type=float, default=0)
    parser.add_argument("--model-dir", default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--train", default=os.environ["SM_CHANNEL_TRAIN"])
    options, _ = parser.parse_known_args()
    time.sleep(options.pause)
    rows = np.loadtxt(Path(options.train) / "train.csv", delimiter=",", ndmin=2)
    booster = xgboost.train(
        {"max_depth": options.max_depth, "eta": 1, "lambda": 0, "nthread": 1},
        xgboost.DMatrix(rows[:, 1:], rows[:, 0]),
        num_boost_round=5,
    )
    booster.save_model(Path(options.model_dir) / "xgboost-model.json")
    print(f"depth={options.max_depth};")
