"""From a specification to a file of numbers with its provenance: one JSON per run, and the shelf on which it
lies."""
