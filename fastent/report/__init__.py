"""One self-contained HTML page that shows a run: what happened, when, and which training points are stragglers."""
