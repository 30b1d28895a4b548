"""The claims of the source paper as experiments: each a function that returns a frozen result with verdict, table and plot."""
