"""What the synthetic world and the profile are judged by: gates, oracles, learning rates and lengths; and the
pretraining of the project's own models."""
