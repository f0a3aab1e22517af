"""What the instrument itself is measured with: the world's gates, its oracles, the length of a training, the
small models."""
