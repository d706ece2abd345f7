"""The HTML report: one page that opens offline, and its figures as PNG files."""
