"""What a method shows besides its scores: explanations, visuals, data flow, speed and memory."""
