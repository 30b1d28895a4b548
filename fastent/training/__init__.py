"""Training of many networks at once, recorded as it goes: how class radii, errors and misclassified points develop.

    train                           train_streamed              check their options (options)
      |  rows in memory               |  rows on disk
      v                               v
    in_memory_session               streamed_session            train to the last epoch; save, stop, resume
      |-- in_memory_networks          |                         made from a configuration, or with stored weights
      |-- ensemble, module_ensemble   |-- learning              the networks; an update
      |-- points                      |-- checkpoint            their inputs; the state in a folder
      |-- held_out                    |-- streamed_recorder     test errors; what one record holds
      |                               `-- streamed_stragglers   one last pass over all points
      v                               v
    Recording (fastent.activations.history): records by update
      |
      v
    run_records                                                 the arrays of a run, inversions and stragglers
      |-- straggler_list                                        its stragglers one by one
      |-- tables                                                the same as tables, numbers and sentences
      |-- run_map, remade                                       its points in two dimensions, as a layer has them
      v
    run                                                         Run: files, pictures, text; load_run, checked by stored_run
      |
      v
    stragglers, predictions                                     what its networks say of them when training is repeated

Shared by both sides: schedule (when to record), networks and optimizers (by name or of the user's own making) and factories
(what may go wrong there), drawing (random numbers that leave torch's global generator alone). A snapshot shows the networks of
an in-memory run to the experiments while they train.

On a CPU, one epoch of fully connected networks is two matrix products, which all seeds share, and one kernel
(`fastent.kernels.head`) for everything between the last hidden layer and its gradient.
"""
