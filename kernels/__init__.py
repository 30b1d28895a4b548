"""Compiled kernels: loops over arrays, without Python objects, each for one thread at a time.

    jit ---------- how kernels and steps are written         sharing ------ parallel_for: a kernel's range over threads
     |  `-- compiling -- a kernel as one piece of code; announcing -- what is said meanwhile
     |         `-- cache -- where code is kept; prebuilt -- what comes with the wheel; target -- what it is made for
     |
     +-- arrays ----------------------------- the form in which arrays reach kernels
     +-- vectors ---------------------------- what intrinsics in LLVM's language share
     +-- distance, exponential -------------- arithmetic on one pair, one number
     |
     +-- tree, quantized, points ------------ points cut into tiles; their codes; what a search knows of them
     +-- boxes, products, limits ------------ what tells that a pair is too far: boxes; products of codes, and their limits
     +-- lists, found ----------------------- lists of neighbours; what queries have found and still want
     |     `-> meeting -> search ------ two tiles meet; the walk through pairs of tiles       (fastent.search)
     +-- reach, merging ----- which cells of space a query reaches; lists among some rows joined with others (fastent.search)
     +-- differences -> scan  few queries that meet rows as they lie                            (fastent.search)
     +-- pairs ------------- blocks of all pairs: distances, sums over classes, lists, counts    (fastent.search)
     +-- spanning ---------- rounds of the minimum spanning tree                                (fastent.search)
     +-- moments, mixing, monotone ---------- class moments, shares of labels, monotone fits (fastent.statistics)
     +-- head, recording, held_out, sparse -- heads of networks, their records, sparse inputs   (fastent.training)

A kernel is called from Python, a step by kernels only. A kernel has a driver where it takes several threads or needs room: a
Python function that makes room for the results, lets `parallel_for` call the kernel or does so itself, and passes what is only
read as read-only. So every array has one form, and a kernel is compiled once for float32 and once for float64. A change of any
file here has all kernels compiled anew.
"""
