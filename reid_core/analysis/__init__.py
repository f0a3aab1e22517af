"""What a trained method shows besides its scores: explanations, pictures, the flow of its data, speed."""
