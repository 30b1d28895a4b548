"""The claims of the source paper as experiments: each a function that returns a frozen result with verdict, table and plot.

    own options          data, seeds, seed, preset, out, progress, further options
         |                                    |
         |                                    v
         |                  Setting.make: data loaded, options of fe.train with their defaults
         v                                    |
      one module an experiment: <-------------+
       question, computation, verdict
           _dynamics  _pruning  _generalization  _stability
           _blocks  _subsampling  _sweep  _layers  _difficulty  _entanglement
           _removal  _stopping
           (steadiness: eps* beside the error at a fixed epoch)
                     |                 |
        setting.train, .keep           |   critical.py: eps* of each network of a run, over the classes that turn in at least
        (networks, finished parts      |   half of the networks, or why there is none; what still falls leaves questions open
         kept and taken up again)      v
                               Result: claim, verdict (yes, no, undecided), table(), draw(), numbers()
                                       |
              save (NAME.json, NAME.svg), plot, terminal, notebook, report, figures (the paper's four)

An experiment refuses wrong values of its own options before any data are read, then makes its `Setting` of those that all of
them take. Whatever takes long goes through the setting, so that a finished part is not done again. A verdict says yes or no
only where the intervals leave nothing else: `below`, `near` and `overall` in result.py, `peak_verdict` in peak.py. An
experiment of several questions has an answer to each, and one verdict on all (`joined`). Questions about eps* itself (dynamics,
blocks, subsampling, sweep) read the first hidden layer, as deeper ones rarely turn; those about stragglers and about what
networks do there read the last, whose inversions define the stragglers. scores.py has the
scores of difficulty and removal.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
