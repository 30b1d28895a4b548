"""What must not be collected: the integrations are no modules without the libraries that they are for."""

collect_ignore = ["fastent/integrations"]  # tests/test_integrations.py imports each of them, if its library is there
