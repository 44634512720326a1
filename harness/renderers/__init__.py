"""A run, drawn: for people (page, Markdown, explain) and for programs (JSON, CSV)."""
