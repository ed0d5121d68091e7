"""What the camera path bears: speed, a long soak, and cameras that are lost. Measured through the whole path."""
