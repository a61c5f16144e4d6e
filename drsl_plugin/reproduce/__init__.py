"""``drsl reproduce``: table definitions to runs to one table."""
