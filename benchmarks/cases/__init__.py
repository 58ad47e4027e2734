"""What is measured: each case is a function from a trial and its setting to an outcome."""
