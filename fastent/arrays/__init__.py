"""The front door: whatever users pass as points, labels or queries is checked here, and leaves as one type.

    X: array, tensor, list, path, Source, data frame  labels: integers, strings, booleans, path  queries: number, rows, points
          |      frames: data frames as tables              |                                          |
          |      labelled: labels by the name of a column --+                                          |
    validation.as_features                            validation.as_labels                       queries.as_queries
          |                                                 |   labels: missing or odd ones            |
          v                                                 v                                          v
    numpy array or Source (n, d), real dtype,         Labels: codes (n,) int64,                  Queries: rows (q,) int64
    not copied where that is possible                 sorted classes (C,)                        or points (q, d)
          |
          +-- ranges.check_range        values that the search cannot take are refused, with their row
          +-- ranges.resolution_of      how near two rows must be before rounding alone could separate them
          +-- cluster.as_shared_source  the same rows, for the workers of a Dask cluster
          |
          v
    validation.row_blocks -> (start, block): C-contiguous float32 or float64, one block in memory at a time -> kernels

Statistics, training and the search take no other way in: what has left this room is not checked again. Values (NaN, infinity)
are checked by `check_finite` and `check_range`, because that reads all rows, which a statistic may do anyway.
"""
