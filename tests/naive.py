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


def monotone_fit(y, w, sign):
    """The best rising (sign 1) or falling fit, value by value: the largest of the smallest means of stretches around it."""
    y, w = sign * np.asarray(y, float), np.asarray(w, float)
    n = len(y)

    def mean(a, b):
        return np.sum(w[a:b] * y[a:b]) / np.sum(w[a:b])

    return sign * np.array([max(min(mean(a, b) for b in range(i + 1, n + 1)) for a in range(i + 1)) for i in range(n)])


def monotone_error(y, w, sign):
    return float(np.sum(np.asarray(w) * (np.asarray(y) - monotone_fit(y, w, sign)) ** 2)) if len(y) else 0.0


def best_turn_error(y, w):
    """Errors of the best "rises, falls" and of the best "rises, falls, rises, falls"."""
    n = len(y)
    error = {(a, b, s): monotone_error(y[a:b], w[a:b], s) for a in range(n + 1) for b in range(a, n + 1) for s in (1, -1)}
    once = {
        (a, b): min(error[a, p, 1] + error[p, b, -1] for p in range(a, b + 1)) for a in range(n + 1) for b in range(a, n + 1)
    }
    return once[0, n], min(once[0, i] + once[i, n] for i in range(n + 1))


def second_differences(y, h):
    means = [np.mean(y[i : i + h]) for i in range(len(y) - h + 1)]
    return np.mean([(means[i] - 2 * means[i + h] + means[i + 2 * h]) ** 2 for i in range(len(y) - 3 * h + 1)])


def squared_distances(Q, X, dtype=np.float64):
    """(q, n); some rows of X at a time, which stay in the processor's cache."""
    Q, X = np.asarray(Q, dtype), np.asarray(X, dtype)
    found = np.empty((len(Q), len(X)), dtype)
    step = 1 + 50_000 // max(1, X.shape[1])
    for start in range(0, len(X), step):
        some = X[start : start + step]
        for q, of_row in zip(Q, found):
            of_row[start : start + step] = np.sum((some - q) ** 2, axis=1)
    return found


def nearest(squared, k, own=None, allowed=None):
    """Indices and distances of the k nearest, ties by the lower index."""
    squared = squared.copy()
    if own is not None:
        squared[np.arange(len(own)), own] = np.inf
    if allowed is not None:
        squared[~allowed] = np.inf
    indices = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return indices, np.sqrt(np.take_along_axis(squared, indices, 1))


def near_duplicates(squared, limit, *, mutual=True):
    """Pairs (row, other) of entries of (q, n) squared distances up to a limit; those of rows with each other once."""
    return [(i, j) for i, row in enumerate(squared) for j, each in enumerate(row) if each <= limit and (i < j or not mutual)]


def groups(pairs, n):
    """The lowest row that can be reached from each by pairs."""
    group = list(range(n))
    while True:
        before = list(group)
        for i, j in pairs:
            group[i] = group[j] = min(group[i], group[j])
        if group == before:
            return group


def mixing(indices, distances, labels, own, n):
    labels, own = np.asarray(labels), np.asarray(own)
    classes = sorted(set(labels.tolist()))
    purity, entropy, vote = [], [], []
    for row, dist, label in zip(indices, distances, own):
        its = labels[row]
        purity.append(np.mean(its == label))
        shares = {c: np.mean(its == c) for c in set(its.tolist())}
        entropy.append(-sum(p * np.log(p) for p in shares.values()))
        vote.append(min(shares, key=lambda c: (-shares[c], dist[its == c].min(), c)))
    matrix = np.array(
        [[np.mean(labels[indices[own == a]] == b) if (own == a).any() else np.nan for b in classes] for a in classes]
    )
    occurrence = np.array([np.sum(indices == i) for i in range(n)])
    bad = np.array([np.sum((indices == i) & (own != labels[i])[:, None]) for i in range(n)])
    return {
        "purity": np.array(purity),
        "overlap": np.mean(purity),
        "balanced_overlap": np.mean([np.mean(np.array(purity)[own == c]) for c in sorted(set(own.tolist()))]),
        "class_purity": np.array([np.mean(np.array(purity)[own == c]) if (own == c).any() else np.nan for c in classes]),
        "entropy": np.array(entropy),
        "vote": np.array(vote),
        "error": np.mean(np.array(vote) != own),
        "matrix": matrix,
        "occurrence": occurrence,
        "bad_occurrence": bad,
    }


def neighbor_overlap(a, b):
    """Of each two lists: share in common, Jaccard index, and similarity of the ranks of what they have in common."""
    share, jaccard, ranks = [], [], []
    for first, second in zip(a.tolist(), b.tolist()):
        common = set(first) & set(second)
        share.append(len(common) / len(first))
        jaccard.append(len(common) / len(set(first) | set(second)))
        places = [(first.index(j) + 1, second.index(j) + 1) for j in common]
        best = sum(1 / r for r in range(1, len(common) + 1))
        ranks.append(sum(2 / ((1 + abs(r - s)) * (r + s)) for r, s in places) / best if common else 0.0)
    return {"share": np.array(share), "jaccard": np.array(jaccard), "rank_similarity": np.array(ranks)}


def prediction_depth(votes, final):
    """The earliest layer from which on all votes (q, L) are the final prediction; NaN if the last is not."""
    depth = []
    for row, prediction in zip(votes.tolist(), final):
        agree = [layer for layer in range(len(row)) if all(vote == prediction for vote in row[layer:])]
        depth.append(min(agree) if agree else np.nan)
    return np.array(depth)


def readout_distance(points, target):
    """Squared distance from the target to the nearest vector that has a product >= 0 with every point: the QP itself."""
    from scipy.optimize import minimize

    points, target = np.asarray(points, float), np.asarray(target, float)
    found = minimize(
        lambda v: np.sum((v - target) ** 2),
        target + points.mean(0),
        jac=lambda v: 2 * (v - target),
        constraints={"type": "ineq", "fun": lambda v: points @ v, "jac": lambda v: points},
        method="SLSQP",
        options={"maxiter": 1000, "ftol": 1e-14},
    )
    assert found.success
    return found.fun


def ball_capacity(radius, dimension):
    """Chung, Lee, Sompolinsky (2016): mean squared distance of a normal (t0, t) from the cone v0 >= radius |v|, inverted."""
    from scipy.stats import chi, norm

    t0, t = np.linspace(-9, 9, 3001)[:, None], np.linspace(0, 12, 2001)
    distance = np.where(  # readouts are v with v0 - radius |v| >= 0
        t0 >= radius * t, 0, np.where(radius * t0 <= -t, t0**2 + t**2, (radius * t - t0) ** 2 / (1 + radius**2))
    )
    weights = norm.pdf(t0) * chi(dimension).pdf(t)
    return float(np.trapezoid(np.trapezoid(weights, t), t0[:, 0]) / np.trapezoid(np.trapezoid(distance * weights, t), t0[:, 0]))


def separable(points, sides):
    """Whether a linear readout through the origin has every point on its side, by a linear programme."""
    from scipy.optimize import linprog

    signed = points * np.asarray(sides, float)[:, None]
    d = points.shape[1]
    return linprog(np.zeros(d), A_ub=-signed, b_ub=-np.ones(len(signed)), bounds=[(None, None)] * d).status == 0


def stratified_mean(values, codes, sizes):
    """Mean over all rows and its standard error, after Cochran, of the values that are known; NaN elsewhere."""
    values, codes = np.asarray(values, np.float64), np.asarray(codes)
    sampled = [c for c in range(len(sizes)) if sizes[c]]
    total = known = 0.0
    for c in sampled:
        each = values[codes == c]
        total += sizes[c] * np.nansum(each) / len(each)
        known += sizes[c] * np.sum(~np.isnan(each)) / len(each)
    mean = total / known
    apart = [np.nan_to_num(values[codes == c] - mean) for c in sampled]
    several = [each for each in apart if len(each) > 1]
    squares = sum(((each - each.mean()) ** 2).sum() for each in several)
    pooled = squares / sum(len(each) - 1 for each in several) if several else 0.0
    alone = np.concatenate([each for c, each in zip(sampled, apart) if len(each) == 1 < sizes[c]] or [[]])
    of_one = max(pooled, alone.var(ddof=1) if len(alone) > 1 else 0.0)
    variance = 0.0
    for c, each in zip(sampled, apart):
        within = each.var(ddof=1) if len(each) > 1 else of_one
        variance += sizes[c] ** 2 * (1 - len(each) / sizes[c]) * within / len(each)
    return mean, np.sqrt(variance) / known


def lisi(indices, distances, labels, perplexity):
    from scipy.optimize import brentq

    result = []
    for row, dist in zip(indices, np.asarray(distances, np.float64)):
        its, dist = np.asarray(labels)[row], (dist - dist.min()) / max(np.ptp(dist), 1e-300)

        def weights(beta, dist=dist):
            w = np.exp(-beta * dist)
            return w / w.sum()

        def surplus(log_beta, weights=weights):
            w = weights(np.exp(log_beta))
            return -np.sum(w * np.log(np.maximum(w, 1e-300))) - np.log(perplexity)

        w = weights(np.exp(brentq(surplus, -20, 20, xtol=1e-13))) if np.ptp(dist) else np.full(len(dist), 1 / len(dist))
        result.append(1 / sum(w[its == c].sum() ** 2 for c in set(its.tolist())))
    return np.array(result)


def distinct_lists(X, indices, distances):
    """Of each row that repeats no earlier one, the distances to neighbours that repeat neither it nor a nearer one; two at least."""
    seen, lists = set(), []
    for i, (its, dist) in enumerate(zip(indices, distances)):
        if X[i].tobytes() in seen:
            continue
        seen.add(X[i].tobytes())
        known, kept = {X[i].tobytes()}, []
        for j, r in zip(its, dist):
            if X[j].tobytes() not in known:
                known.add(X[j].tobytes())
                kept.append(float(r))
        if len(kept) >= 2:
            lists.append(kept)
    return lists


def intrinsic_dimension(lists, method):
    """From distances to neighbours, ascending, as many as there are; the likelihood of gride is looked up on a grid."""
    q = len(lists)
    mu = [row[1] / row[0] for row in lists]
    if method == "twonn":
        points = [(np.log(m), -np.log(1 - (i + 1) / q)) for i, m in enumerate(sorted(mu)[: max(1, int(0.9 * q))])]
        return sum(x * y for x, y in points) / sum(x * x for x, _ in points)
    if method == "twonn-ml" or (method == "gride" and max(map(len, lists)) < 4):
        return (q - 1) / sum(np.log(m) for m in mu)
    if method == "mle":
        logarithms = [np.log(row[-1] / r) for row in lists for r in row[:-1]]
        return len(logarithms) / sum(logarithms)
    n = np.array([len(row) // 2 for row in lists])
    ratios = np.array([row[2 * m - 1] / row[m - 1] for row, m in zip(lists, n)])

    def log_likelihood(d):
        log_ratio = np.log(ratios)
        log_of_power_less_1 = d * log_ratio + np.log1p(-np.exp(-d * log_ratio))
        return q * np.log(d) + ((n - 1) * log_of_power_less_1 - ((2 * n - 1) * d + 1) * log_ratio).sum()

    grid = np.geomspace(0.01, 100, 4001)
    for _ in range(2):
        best = grid[np.argmax([log_likelihood(d) for d in grid])]
        grid = np.linspace(best / 1.003, best * 1.003, 2001)
    return best


def logit_margin(logits, labels):
    return np.array([float(z[y]) - max(float(z[j]) for j in range(len(z)) if j != y) for z, y in zip(logits, labels)])


@np.errstate(invalid="ignore", divide="ignore")
def silhouette(X, labels, method="exact"):
    X, labels = np.asarray(X, np.float64), np.asarray(labels)
    classes = sorted(set(labels.tolist()))
    squared = squared_distances(X, X)
    result = []
    for i, label in enumerate(labels):
        if method == "simplified":
            to = {c: np.linalg.norm(X[i] - X[labels == c].mean(0)) for c in classes}
        else:
            d = np.sqrt(squared[i]) if method == "exact" else squared[i]
            to = {c: d[labels == c].sum() / (np.sum(labels == c) - (c == label)) for c in classes}
        a, b = to[label], min(to[c] for c in classes if c != label)
        alone = np.sum(labels == label) == 1
        result.append(0.0 if alone or max(a, b) == 0 else (b - a) / max(a, b))
    return np.array(result)


def soft_nearest_neighbor(X, labels, temperature):
    """Per point; NaN for a point alone in its class."""
    squared, labels = squared_distances(X, X), np.asarray(labels)
    result = []
    for i, label in enumerate(labels):
        others = np.arange(len(labels)) != i
        same = others & (labels == label)

        def log_sum(chosen, i=i):
            x = -squared[i, chosen] / temperature
            return x.max() + np.log(np.exp(x - x.max()).sum())

        result.append(log_sum(others) - log_sum(same) if same.any() else np.nan)
    return np.array(result)


@np.errstate(invalid="ignore", divide="ignore")
def about_means(X, labels, weights=None, bias=0.0):
    """Davies-Bouldin, and NC3 and NC4 of a linear layer."""
    X, labels = np.asarray(X, np.float64), np.asarray(labels)
    classes = sorted(set(labels.tolist()))
    means = np.array([X[labels == c].mean(0) for c in classes])
    spread = [np.mean([np.linalg.norm(x - mean) for x in X[labels == c]]) for c, mean in zip(classes, means)]
    worst = [
        max((spread[a] + spread[b]) / np.linalg.norm(means[a] - means[b]) for b in range(len(classes)) if b != a)
        for a in range(len(classes))
    ]
    result = {"davies_bouldin": np.mean(worst)}
    if weights is not None:
        centred = means - means.mean(0)
        result["nc3"] = np.sum((weights / np.linalg.norm(weights) - centred / np.linalg.norm(centred)) ** 2)
        nearest = [np.argmin([np.linalg.norm(x - mean) for mean in means]) for x in X]
        result["nc4"] = np.mean([np.argmax(weights @ x + bias) != c for x, c in zip(X, nearest)])
    return result


def participation_ratio(X):
    eigenvalues = np.linalg.eigvalsh(np.cov(np.asarray(X, np.float64), rowvar=False, ddof=0))
    return eigenvalues.sum() ** 2 / (eigenvalues**2).sum()


def unbiased_hsic(K, L):
    """After Song et al. (2012), equation 5: diagonals set to 0."""
    n = len(K)
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    ones = np.ones(n)
    total = np.trace(K @ L) + (ones @ K @ ones) * (ones @ L @ ones) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (ones @ K @ L @ ones)
    return total / (n * (n - 3))


def debiased_cka(X, Y):
    K, L = (np.asarray(rows, np.float64) @ np.asarray(rows, np.float64).T for rows in (X, Y))
    return unbiased_hsic(K, L) / np.sqrt(unbiased_hsic(K, K) * unbiased_hsic(L, L))


def cka(X, Y):
    X, Y = (np.asarray(rows, np.float64) - np.mean(rows, 0, np.float64) for rows in (X, Y))
    return np.linalg.norm(Y.T @ X) ** 2 / (np.linalg.norm(X.T @ X) * np.linalg.norm(Y.T @ Y))


def spanning_tree(X):
    """Kruskal's; of edges of one length those with the lower row numbers first."""
    squared = squared_distances(X, X)
    n = len(squared)
    edges = sorted((squared[i, j], i, j) for i in range(n) for j in range(i + 1, n))
    component, tree = list(range(n)), []
    for length, i, j in edges:
        if component[i] != component[j]:
            tree.append((i, j, length))
            old = component[j]
            component = [component[i] if c == old else c for c in component]
    return tree


def complexity(X, labels):
    """All but N4, and what they are made of."""
    X, labels = np.asarray(X, np.float64), np.asarray(labels)
    n, classes = len(X), sorted(set(labels.tolist()))
    squared = squared_distances(X, X)
    enemies = labels[:, None] != labels
    border = np.zeros(n, bool)
    for i, j, _ in spanning_tree(X):
        if labels[i] != labels[j]:
            border[[i, j]] = True
    miss = np.sqrt(np.where(enemies, squared, np.inf).min(1))
    enemy = np.where(enemies, squared, np.inf).argmin(1)

    def radius(i, depth=0):
        if depth > n or miss[enemy[i]] == miss[i]:
            return miss[i] / 2
        return miss[i] - radius(enemy[i], depth + 1)

    radii = np.array([radius(i) for i in range(n)])
    absorbed, kept = np.zeros(n, bool), []
    for i in sorted(range(n), key=lambda i: (-radii[i], i)):
        absorbed[i] = any(labels[j] == labels[i] and np.sqrt(squared[i, j]) < radii[j] for j in kept)
        if not absorbed[i]:
            kept.append(i)
    local = np.array([np.sum(squared[i] < np.min(squared[i][enemies[i]])) for i in range(n)])
    ratio = []
    for feature in X.T:
        groups = [feature[labels == c] for c in classes]
        within = sum(((group - group.mean()) ** 2).sum() for group in groups)
        between = sum(len(group) * (group.mean() - feature.mean()) ** 2 for group in groups)
        ratio.append(between / within if within > 0 else np.inf if between > 0 else 0)
    return {
        "n1": border.mean(),
        "t1": 1 - absorbed.mean(),
        "lsc": 1 - local.sum() / n**2,
        "f1": 1 / (1 + max(ratio)),
        "border": border,
        "radius": radii,
        "absorbed": absorbed,
        "local_set": local,
    }


def wide_squared_distances(Q, X):
    """In extended precision, whose squares of what float64 holds neither overflow nor vanish."""
    return squared_distances(Q, X, np.longdouble)


def wide_angles(Q, X):
    """1 - cos, in extended precision: half the squared distance of rows of unit length, of what does not lie along the query."""
    Q, X = (np.asarray(rows, np.longdouble) for rows in (Q, X))
    Q, X = (rows / np.abs(rows).max(1, keepdims=True) for rows in (Q, X))
    squares, result = (X**2).sum(1), []
    for q in Q:
        product = X @ q
        rest = X - np.outer(product / (q @ q), q)
        rest -= np.outer((rest @ q) / (q @ q), q)
        sine_squared = (rest**2).sum(1) / squares
        cosine = product / np.sqrt(squares * (q @ q))
        cosine = np.clip(cosine, -1, 1)
        sine_squared[sine_squared < np.longdouble(2) ** -200] = 0
        result.append(np.where(cosine > 0.5, sine_squared / (1 + np.abs(cosine)), 1 - cosine))
    return np.array(result)


def wrong_lists(found, truth, own, rows=None, *, blur=0.0):
    """Which lists (q, k) are not those of the nearest by `truth` (q, n): found wrong, not ascending, or equal rows out of order.

    rows : (n, d), whose equal rows have to stand in the order of their numbers.
    blur : how far a sine may be off in `truth`, where that holds angles: 2^-60 in extended precision.
    """
    truth = truth.copy()
    if own is not None:
        truth[np.arange(len(own)), own] = np.inf
    q, k = found.shape
    nearest = np.sort(np.partition(truth, k - 1, 1)[:, :k], 1)
    mine = np.take_along_axis(truth, found, 1)
    wrong = (np.abs(mine - nearest) > 1e-11 * nearest + blur * np.sqrt(nearest)).any(1)
    for i in range(q):
        wrong[i] |= len(set(found[i])) < k
        if rows is None:
            continue
        for j in range(k - 1):
            if found[i, j] > found[i, j + 1] and np.array_equal(rows[found[i, j]], rows[found[i, j + 1]]):
                wrong[i] = True
        last = found[i, -1]  # no equal row of a lower number may have been left out
        same = np.flatnonzero(truth[i] == truth[i, last])
        left_out = np.setdiff1d(same[same < last], found[i])
        wrong[i] |= any(np.array_equal(rows[j], rows[last]) for j in left_out)
    return wrong
