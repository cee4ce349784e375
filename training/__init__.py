"""Training: of the demo model's parts, from rendered rooms. Knows nothing of nodes."""
