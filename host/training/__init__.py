"""Training in the host: its MODEL, CLIP and VAE as the parts that `training` asks for."""
