"""Primitives of pictures with matplotlib: arrays and labels in, artists on axes. Nothing here knows a result.

Results call them in their `plot`::

    result.plot(ax=...) -> figure.axes_of      the user's axes, or those of a new figure whose text stays text in files
                        -> curves              lines over epochs, seeds thin or as a band, inversions as dots with intervals
                        -> by_name             a cell for each pair of classes, quantiles of groups, marks for classes,
                                               points with error bars
                        -> points              points of classes in a plane
                        -> style               colours, legends, axes of epochs and errors, names that are no formulas
                        -> titles and labels, which say what was found

matplotlib is imported when something is drawn.
"""
