"""Layouts of published molecule files; the families and the excerpts both read them."""
