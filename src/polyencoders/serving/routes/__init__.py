"""The HTTP routes, grouped by what they do."""
