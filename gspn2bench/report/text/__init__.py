"""Reports as text: for the terminal, as Markdown, and as data for scripts."""
