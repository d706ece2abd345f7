"""Recorded runs: ``schema`` defines rows and run.json, ``store`` reads and writes run folders."""
