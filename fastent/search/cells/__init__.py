"""Rows that do not fit in memory, searched in one cell of space after the other, here or by the workers of a cluster.

    rows ---- dealt to cells of space, each of a size that memory allows
                 |
       1. a cell --- an index of it --- searched by its own queries, whose lists then tell how far they reach
                 |
       2. a cell --- an index of it --- searched by the queries of other cells that reach it, no farther than their lists

An index is built at most twice for each cell where one process searches, and a query meets few cells where space can be told
apart. A pair's distance does not depend on the index it is met in, and lists keep the nearest with ties by the lower row
number: what is found is what one index of all rows finds, to the bit.

What is kept where a search can be resumed, in a subfolder of its own, each file whole or not there:

    plan.npz                      how space is cut, and how many rows a block has
    rows-FIRST.npz, rows-FIRST.bin    what a block of rows was dealt to, and copies of the rows, until the search ends
    own-CELL-FIRST-LAST.npz       what queries of a cell, by position, found in it and which others they reach
    visit-CELL-FIRST-LAST.npz     what some of a cell's visitors, by their place among these, found in it

    groups-*.npz                  how many queries such a group has

The first three depend on the partition alone. Visits depend on earlier results only in how far they search. `.asked.npz` is
what a worker is given.

- index.py: the index, and where its files lie; plan.py: how many cells, and what they take; stages.py: a search under way.
- partition.py: space cut into cells; rows.py, queries.py: the rows, and the queries with their lists, of each cell; cell.py:
  what is done for one cell, in whatever process; reach.py: which queries reach which cells; time_left.py: how long it takes.
"""
