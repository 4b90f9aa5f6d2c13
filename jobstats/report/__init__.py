"""Analyses and charts composed for readers: a page for people, a summary for terminals."""
