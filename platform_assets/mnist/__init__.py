"""Handwritten digits: raw → dataset → model → classifier → endpoint, and their checks."""
