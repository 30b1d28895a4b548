"""Pictures of results with matplotlib, which is imported when something is drawn: results in, artists on axes."""
