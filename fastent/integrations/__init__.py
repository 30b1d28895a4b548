"""fastent inside the training loops and trackers of others: thin, each a page."""
