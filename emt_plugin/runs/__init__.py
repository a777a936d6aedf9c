"""Whole runs: their folders, one beside another, their history, several made one, and what is shown of them. Pure."""
