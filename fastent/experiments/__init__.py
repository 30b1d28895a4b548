"""The claims of the source paper as experiments: each a function that returns a frozen result with verdict, table and plot.

    question + own options          data, seeds, seed, preset, out, progress, further options
              \\                        /
               @experiment(...)  <----  Setting.make: data loaded, options of fe.train with their defaults
                     |
                     v
          one module an experiment:  question, computation, verdict
           _dynamics  _pruning  _generalization  _stability
           _subsampling  _sweep  _difficulty  _entanglement
                     |                 |
        setting.train, .keep           |   critical_errors, reasons_text: eps* of each network of a run, or why it has none
        (networks, finished parts      |
         kept and taken up again)      v
                               Result: claim, verdict (yes, no, undecided), table(), draw(), numbers()
                                       |
              save (NAME.json, NAME.svg), plot, terminal, notebook, report, figures (the paper's four)

An experiment is a function of a `Setting` and its own options. The decorator adds the options that all of them take, to the
signature and the docstring alike, and refuses wrong values before any data are read. Whatever takes long goes through the
setting, so that a finished part is not done again. A verdict says yes or no only where the intervals leave nothing else:
`below`, `near` and `overall` in result.py.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
