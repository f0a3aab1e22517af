"""Manifest in, numbers out."""
