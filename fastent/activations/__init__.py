"""What the layers of a torch model put out, kept on disk, computed on demand, or measured while the model trains.

    loader --- batching.batches ---> inputs, labels                    loaders: is row i the same in every pass?
                      |
                      v
    model --- hooks.hooked ---> run_model(inputs) ---> the model's output and (b, d) of each layer
                 |                                         |
                 +-- evaluation  eval mode, and the        +---> capture -> io.store    rows on disk, resumed_capture goes on
                 |               model as it was           +---> model_source           rows computed when asked for
                 +-- named       layers by name            +---> probe_pass -> Reading  one pass over a probe set
                 +-- layouts     which axis is what                  |    probe_recorder: what passes found
                 +-- padding     which tokens count                  |    probe_set: the same rows at every pass
                 |     masks                                         |      and several processes
                 +-- pooling     (b, tokens, d) -> rows              v
                                                           probe.Probe -> records.ProbeRecords (a history)

    layer_margins (with layer_inputs): distances to the decision boundary, from gradients at the layers' inputs

A model is left as it was found: its mode, gradients, random states and device. A layer's output may have channels second or
last, steps before inputs, and padding; `layouts` and `padding` decide from the modules of the model and the masks in the batch,
and refuse or warn where these do not tell.
"""
