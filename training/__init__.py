"""Training of CAA blocks: plain torch and torch.distributed. The UNet and the autoencoder are handed in: no host."""
