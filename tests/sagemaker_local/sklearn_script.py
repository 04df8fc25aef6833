"""A user's script for SageMaker's scikit-learn image, as AWS's examples have it."""

import argparse
import importlib
import json
import os
import time
from pathlib import Path

import joblib
import numpy as np
from sklearn.tree import DecisionTreeClassifier


def model_fn(model_dir):
    """Loads the model that was trained."""
    return joblib.load(Path(model_dir) / "model.joblib")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-depth", type=int)
    parser.add_argument("--criterion")
    parser.add_argument("--model-dir", default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--train", default=os.environ["SM_CHANNEL_TRAIN"])
    parser.add_argument("--pause", type=float, default=0)
    parser.add_argument("--uses", help="a module that requirements.txt names")
    options, _ = parser.parse_known_args()
    if options.uses:
        importlib.import_module(options.uses)
    time.sleep(options.pause)
    rows = np.loadtxt(Path(options.train) / "train.csv", delimiter=",", ndmin=2)
    tree = DecisionTreeClassifier(
        max_depth=options.max_depth, criterion=options.criterion, random_state=0
    ).fit(rows[:, 1:], rows[:, 0])
    joblib.dump(tree, Path(options.model_dir) / "model.joblib")
    seen = {name: text for name, text in os.environ.items() if name.startswith("SM_")}
    (Path(options.model_dir) / "seen.json").write_text(json.dumps(seen))
    print(f"depth={tree.get_depth()};")
