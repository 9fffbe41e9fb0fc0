"""What a GAN is: networks, losses, training, sampling and fidelity. No files, no tracking, no scheduling."""
