"""Shapley values of isolation forests, exactly, by TreeSHAP (Lundberg et al. 2020): on request, through `shap`.

They cost about a millisecond a row; the contributions that `isolation_forest` gives with every score cost next to none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.detect.isolation_model import LARGEST_VALUE, Model, average_path
from foreshock.errors import ConfigError


def explain(model: Model, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how many steps each feature shortens the path of each row, against the average of the forest's own rows.

    Parameters
        model  a forest, as `isolation_model.fit` or `IsolationForest.model` gives it
        rows   float64[n, D], D as the forest was fitted on; NaN = missing

    Returns float64[n, D]: above 0 where the feature makes a row stand apart. Those of a row add up to the mean path
    length of the rows the forest was fitted on less its own. Raises ConfigError where shap is not installed.
    """
    try:
        import shap
    except ImportError as error:
        raise ConfigError(
            f"Shapley values need shap, which cannot be imported ({error}): pip install 'foreshock[shap]'"
        ) from error
    trees = [_tree(model, t) for t in range(len(model.feature))]
    explainer = shap.TreeExplainer({"trees": trees}, feature_perturbation="tree_path_dependent")
    given = np.clip(rows, -LARGEST_VALUE, LARGEST_VALUE).astype(np.float32).astype(np.float64)
    values = np.asarray(explainer.shap_values(given, check_additivity=False), np.float64)
    return -values.reshape(rows.shape) / len(trees)


def _tree(model: Model, t: int) -> dict[str, Any]:
    """One tree as shap reads it: nodes in a list, children by their places, −1 at leaves."""
    threshold, value, half = model.threshold[t], model.value[t], model.threshold.shape[1]
    averages = np.array([average_path(n) for n in range(_rows_of(model) + 1)])
    nodes, at = [1], 0
    left, right, default, feature, split, rows = [], [], [], [], [], []
    while at < len(nodes):
        node = nodes[at]
        depth = node.bit_length() - 1
        rows.append(int(np.abs(averages[1:] - (value[node] - depth)).argmin()) + 1)
        inside = node < half and np.isfinite(threshold[node])
        children = (len(nodes), len(nodes) + 1) if inside else (-1, -1)
        left.append(children[0])
        right.append(children[1])
        default.append(children[0] if inside and value[2 * node] > value[2 * node + 1] else children[1])
        feature.append(int(model.feature[t, node]) if inside else -2)
        split.append(float(threshold[node]) if inside else -2.0)
        if inside:
            nodes += [2 * node, 2 * node + 1]
        at += 1
    return {
        "children_left": np.array(left, np.int32),
        "children_right": np.array(right, np.int32),
        "children_default": np.array(default, np.int32),
        "features": np.array(feature, np.int32),
        "thresholds": np.array(split),
        "values": value[nodes].astype(np.float64).reshape(-1, 1),
        "node_sample_weight": np.array(rows, np.float64),
    }


def _rows_of(model: Model) -> int:
    """How many rows a tree was drawn from, which is told by their average path."""
    return next(n for n in range(2, model.threshold.shape[1] + 1) if average_path(n) >= model.average - 1e-9)
