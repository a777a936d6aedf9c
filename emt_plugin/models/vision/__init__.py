"""What towers make of images, and what is kept of it."""
