"""``drsl reproduce``: from a table file to runs, and from them to one table."""
