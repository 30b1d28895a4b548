"""The oracle: every statistic once more, slow and obvious, in float64, straight from the definitions."""

import numpy as np


def unit_rows(X):
    X = np.asarray(X, np.float64)
    return np.array([row / np.linalg.norm(row) if np.linalg.norm(row) > 0 else row for row in X])


@np.errstate(invalid="ignore", divide="ignore")
def geometry(X, labels, normalize=True):
    X = unit_rows(X) if normalize else np.asarray(X, np.float64)
    labels = np.asarray(labels)
    classes = sorted(set(labels.tolist()))
    n, n_classes = len(X), len(classes)
    groups = [X[labels == c] for c in classes]
    means = np.array([group.mean(0) for group in groups])
    variances = np.array([np.mean([np.sum((x - m) ** 2) for x in group]) for group, m in zip(groups, means)])
    distance = np.array([[np.linalg.norm(a - b) for b in means] for a in means])

    within = np.zeros((X.shape[1], X.shape[1]))
    for group, mean in zip(groups, means):
        for x in group:
            within += np.outer(x - mean, x - mean) / n
    centred = means - means.mean(0)
    between = centred.T @ centred / n_classes
    norms = np.linalg.norm(centred, axis=1)
    angles = [
        abs(centred[a] @ centred[b] / (norms[a] * norms[b]) + 1 / (n_classes - 1))
        for a in range(n_classes)
        for b in range(n_classes)
        if a != b
    ]
    grand = X.mean(0)
    trace_between = sum(len(group) * np.sum((mean - grand) ** 2) for group, mean in zip(groups, means))
    trace_within = sum(len(group) * variance for group, variance in zip(groups, variances))
    return {
        "counts": np.array([len(group) for group in groups]),
        "means": means,
        "radius": np.sqrt(variances),
        "distance": distance,
        "nc1": np.trace(within @ np.linalg.pinv(between, rcond=1e-12, hermitian=True)) / n_classes,
        "nc2": (norms.std() / norms.mean(), np.mean(angles)),
        "cdnv": np.array(
            [
                [(variances[a] + variances[b]) / (2 * distance[a, b] ** 2) if a != b else 0.0 for b in range(n_classes)]
                for a in range(n_classes)
            ]
        ),
        "fisher": trace_between / trace_within,
        "calinski_harabasz": (trace_between / (n_classes - 1)) / (trace_within / (n - n_classes)),
    }


def unit_class_sums(activations, bounds):
    """Sums of each class's unit vectors and how many are not zero, from (S, h, n) activations."""
    sums, directed = [], []
    for network in activations:
        rows = unit_rows(network.T)
        groups = [rows[a:b] for a, b in zip(bounds[:-1], bounds[1:])]
        sums.append([group.sum(0) for group in groups])
        directed.append([sum(bool(row.any()) for row in group) for group in groups])
    return np.array(sums), np.array(directed)


def first_increase(curve, start):
    for i in range(start + 1, len(curve)):
        if curve[i] >= curve[i - 1]:
            return i
    return None
