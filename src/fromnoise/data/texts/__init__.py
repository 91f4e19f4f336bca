"""Texts: documents, their parts, and the token store."""
