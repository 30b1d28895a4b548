"""`fe.measure`: all statistics in one call, each pass over the rows made once; and measurements side by side.

    measure(X, labels, ...)                         metrics.METRICS: one declaration of each metric
        |                                               |
        |-- checks -> task.Task, what is asked          |
        |-- plan.planned -> task.Plan, who meets whom <-|  what each takes: neighbours, all pairs, memory, other metrics
        |                                               |
        |-- prepare, before rows meet <-----------------|  class moments and means; sums that a sweep fills
        |                                               |
        |-- strategies.STRATEGIES: index, cells, sweep  |
        |       -> Near (lists, margins), Border        |
        |                                               |
        |-- find, afterwards <--------------------------|  each metric's result, a field of the measurement
        v                                               |
    result.Measurement: summary, per_point, save <------+  names, meanings, columns
        |
        v
    comparison.compare -> Comparison

A metric that these points do not allow is left out with a note, or refused if it was named (`Task.attempt`). Long steps keep
what they have in the task's `parts`, so that a killed measurement resumes.
"""
