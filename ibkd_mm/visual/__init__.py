"""Drawing predictions on images."""
