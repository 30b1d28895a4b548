"""The front door: what users pass is checked here and leaves as one type."""
