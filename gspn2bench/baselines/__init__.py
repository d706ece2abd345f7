"""Alternatives to a rung: scans in other frameworks (``scans``) and torch modules (``modules``)."""
