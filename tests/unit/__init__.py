"""Tests of the pure layer."""
