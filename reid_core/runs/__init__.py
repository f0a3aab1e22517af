"""Runs: from a specification to measured numbers with their provenance, one JSON file per run on a shelf."""
