"""Training many seeds of a network together, and what happens to the classes while they train."""
