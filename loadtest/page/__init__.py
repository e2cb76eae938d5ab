"""Results of load tests as one page that a person can read alone."""
