"""Cases to run: ``axes`` reads the axes of a sweep, ``scenario`` reads scenario files."""
