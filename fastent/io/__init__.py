"""Files: rows that stay on disk until they are asked for, and results that are written whole and notice damage.

Reading rows. Each format declares a `Reader`: whether it can open a path, and how. `opening.READERS` lists them, and `fe.open`,
labels, data sets given by path and the command line ask that list; only .npz, which is read whole, is known elsewhere too.

    "X.npy"  "t.parquet:emb"  "t.csv"  ".feather"  "w.safetensors:h"  "a.zarr"  folder of shards  captured folder
       |            |            |         |              |              |             |               |
    sources.NPY  parquet    csv_files  arrow_files  safetensors_files  zarr_arrays  opening.FOLDER     store
       |            |            |         |              |              |             |               |
       |            +-- tables: which columns are features; table_rows: columns as rows  |              |
       +------------+------------+---------+--+-----------+--------------+-------------+---------------+
                                            v
                        Source: .shape  .dtype  .read(start, stop)  .take(rows)
                                            |
                      blocks_ahead: the next block is read while the last is used

    npy             .npy and .npz; what a header promises is compared with the bytes before anything is allocated
    reading         every failure of reading is one FastentError with path, cause and remedy; which part of a file is meant
    conversions     the line of Python that converts a file that has no Reader (.pt, .txt)

To add a format: a file with a subclass of `Source` and a `Reader`, and the Reader in `opening.READERS`.

Writing.

    tabular         results as tables of other programs, by way of Arrow
    files           atomic_path: a file appears under its name when it is whole; alone_in: one process writes to a folder
       |
    checksums       .npz, torch archives and JSON with a SHA-256 of their content
       |
       +-- store, store_manifest, store_writer    the folder of `fe.capture`: shards, and a manifest that names them
       +-- result_cache                           finished and partial results of long work, named by what they depend on
"""
