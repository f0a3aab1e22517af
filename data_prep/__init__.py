"""Images on disk, and one table that describes them."""
