"""fastent inside other people's training loops, trackers and pipelines; a file for each library, imported only by who names it.

    lightning.ProbeCallback ------+
                                  +--> attaching.Attachment --> fe.Probe: makes the probe, counts epochs, keeps its records
    transformers.ProbeCallback ---+

    torchmetrics.ClassGeometryMetric --> fe.ClassMoments      class geometry as a metric whose states are sums
    loggers.log_to <--- fe.Probe, fe.measure, any dict        numbers for Weights & Biases, MLflow, TensorBoard, ...
    sklearn.KNeighborsTransformer ---> fe.neighbors           the exact search in pipelines, and where a transformer is taken

The two callbacks translate the events of their trainers into the four that `Attachment` knows: training begins, a batch was
used, an update was made, a pass over the training data ended. An epoch is a whole pass.
"""
