"""What is written of a run: a page, a summary, a terminal's table, a badge and tables in documents."""
