"""Statistics of labelled rows: how the classes lie, how far they mix, how hard they are to tell apart.

Each file has one family: its result (a frozen dataclass), its public function, and the step that `fe.measure` calls with what
it has found already. They start from one of four things::

    rows X, labels --- class_moments --- class_geometry <- neural_collapse
          |                 |                  |
          |                 +--- ClassMeans ---+--- geometry: a second pass over the rows ---> AboutMeans
          |                                                                                        |
          |                              silhouette (simplified, squared), complexity (F1) <-------+
          |
          +--- lists of neighbours (Neighbors) -------> mixing (and LISI)
          |               +---------------------------> dimension_estimators ---> intrinsic_dimension
          |               +--- of several layers -----> neighbor_overlap, prediction_depth
          |               +--- planes (PCA, UMAP, t-SNE) -> point_map: two dimensions, and the neighbours that these keep
          |
          +--- hits and misses (an index) ------------> margins ---> complexity
          |
          +--- all pairs (sweep) ---------------------> silhouette (exact), similarity_sums ---> soft_nearest_neighbor
          |
          +--- covariance (participation ratio, CKA)
          |
          +--- a sample of each class, cone_projection ---> capacity_draws ---> manifold_capacity

    curves of a training run ---> turning ---> inversion                     logits, labels ---> margins

Every mean over a sample of the rows is an `Estimate` from `intervals`. What makes a statistic say less than it seems to is a
`Note` from `notes`; results carry theirs in `notes`. Results draw themselves in `plot` with the primitives of `fastent.plots`.
Sums are in float64 and in an order that does not depend on the number of threads.
"""
