"""Reports: each one HTML page that needs nothing else, no network and no other file.

    Run          --> run.py           tables;  run_words (sentences)  run_curves (figures, thinned)
       |                              stragglers (which to show, scores, neighbours)  pictures (one image)
       |                              map (points in two dimensions), for a Measurement too
    Measurement  --> measurement.py
    Result       --> experiments.py
    ProbeRecords --> probe.py       --> layers.py   heat maps of layers and moments
    Trajectory   --> trajectory.py  -->
       |
    folders      --> comparison.py --> compared_runs.py
                                   --> compared_measurements.py, of what `fastent measure` kept
                                          |
                        a `Page`: title, headline, facts, notices, configuration, command
                        figures: lists of numbers for the scripts;  values for the template
                                          |
                                          v
              page.py: write_page --> page.html.j2 + NAME.html.j2 (sections) + macros.html.j2 (tables, figures, choices)
                                      report.css, page.js, NAME.js, plotly

Text of the user's is escaped and shortened in one place, `page.py`, and so are numbers and options written.
"""
