"""All statistics in one call, and their result."""
