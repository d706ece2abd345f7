"""Scenarios: sweeps as TOML files, with the figures that papers published beside them."""
