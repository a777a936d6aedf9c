"""Tests that run pytest."""
