"""Data sets to train on: from a name, a path or arrays to standardised features and class codes.

    a name, a path, arrays
        |
    datasets ---- formats, pickled      the original files of MNIST-like sets and CIFAR-10, read without trust
        |   `-------- splitting           a test set for data without one
        |  training and test set, as stored
        v
    training_set                        `fe.load_data`: chosen rows, standardised features, class codes -> Data
        |-- presets                     defaults that depend on the data, and published set-ups
        |-- standardization             mean and scale of each feature, of rows in memory or from one pass over the disk
        `-- fingerprint                 what tells two data sets apart

    data on disk
        |
    stored_rows                         rows where they are, labels and codes -> TrainingRows, LabelledRows;
                                        batches from a pool of blocks that is read ahead -> Feed

`Data` is for `fe.train`, `TrainingRows` for `fe.train_streamed`. A run keeps the fingerprint of its data and recognises them by
it when it is resumed.
"""
