"""Baselines: scans in other frameworks (``scans``) and PyTorch modules (``modules``)."""
