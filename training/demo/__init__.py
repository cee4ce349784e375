"""What makes the weights of the demo model, stage by stage, from seeds: rooms, autoencoder, text model and UNet.

The host's classes are built by the door (scripts/train_demo.py) and passed in as modules: nothing here imports it.
Pictures are uint8 or in -1..1, channels last in files and first in tensors; latents are those that the UNet is fed.
"""
