"""One suite per port, run over every backend of it."""
