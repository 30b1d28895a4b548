"""What the layers of a torch model put out, kept on disk, computed on demand, or measured while the model trains.

    loader --- batching.batches ---> inputs, labels                    loaders: is row i the same in every pass?
                      |
                      v
    model --- hooks.hooked ---> run_model(inputs) ---> the model's output and (b, d) of each layer
                 |                                         |
                 +-- evaluation  layers by name; eval      +---> capture -> io.store    rows on disk, resumed_capture goes on
                 |               mode, and the             +---> model_source           rows computed when asked for
                 |               model as it was           |
                 +-- layouts     which axis is what,       +---> probe_pass -> Reading  one pass over a probe set
                 |               (b, tokens, d) -> rows              |    probe_recorder: what passes found
                 +-- padding     which tokens count                  |    probe_set: the same rows at every pass,
                       masks                                         v      dealt to the processes
                                                           probe.Probe -> records.ProbeRecords (a history)

    layer_margins (with layer_inputs): distances to the decision boundary, from gradients at the layers' inputs

A model is left as it was found: its mode, gradients, random states and device. A layer's output may have channels second or
last, steps before inputs, and padding; `layouts` and `padding` decide from the modules of the model and the masks in the batch,
and refuse or warn where these do not tell.
"""
