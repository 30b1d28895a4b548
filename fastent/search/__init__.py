"""Nearest neighbours and sums over all pairs of rows.

A search begins with `planner.plan_index`, which chooses from sizes and prices, and ends in lists; what needs all pairs is a
reduction of the sweep.

    neighbors, near duplicates, margins, complexity, measure, soft nearest neighbours, proposals of faiss and torch
                       |
                 planner.plan_index ---- sizes, memory, cluster, whether all pairs are met anyway; few queries of one search
                       | build
                  index.Index -------- search, nearest, relabelled
                       |
         +-------------+------------------+----------------------+----------------------+
         |             |                  |                      |                      |
    ExactIndex    PartitionedIndex   ChunkedIndex           SweptIndex             ScannedRows
    in memory     cell by cell,      few queries, rows      no index: TopK in a    no index: rows as they lie
         |        also on a cluster  chunk by chunk         sweep; where all       meet a few queries
         |             |                  |                 pairs are met anyway        |
         | <----- CellSearch              |                      |                      |
         | <----------------------- NearestSoFar            sweep.sweep ---- Reduction: TopK, NearerCounts, sums of distances
         |                                ^                      |             and of similarities (statistics/)
         |                     rows that come once               |
         |                      (probes, streams)                |
    kernels.search, kernels.meeting,                       kernels.pairs           kernels.scan, kernels.differences
    kernels.quantized

- index.py: the protocol, queries, lists.         - sketch.py: the frame in which few coordinates say most of a row.
- exact_index.py, out_of_core.py, top_k.py, scan.py: the indices; cells/: the one of rows that do not fit in memory.
- sweep.py: blocks of pairs, and the base of reductions.
- tiles.py, coding.py: how the points of an index lie in tiles, and which codes stand for them; prices.py: what that costs here.
- kept_view.py: how rows are seen, kept from one look at a live model to the next.
- near_duplicates.py: `fe.near_duplicates`, from radius_search.py (which rows, how much memory), pairs_within.py (lists confined
  to a distance, from any index) and equal_rows.py; found_duplicates.py: its result.
- neighbors.py: `fe.neighbors`; neighbor_search.py: a search under way; proposed_neighbors.py: candidates from faiss and torch
  (backends.py), ranked again; found_neighbors.py: the result; neighbor_lists.py: lists that users bring.
- few_queries.py: a few rows compared with all, by SciPy.
- spanning_tree.py: the Euclidean minimum spanning tree, from any index.

To add an index, implement `Index` and let `plan_index` choose it. To add a statistic of all pairs, subclass `Reduction`.
"""
