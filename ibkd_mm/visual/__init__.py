"""Draw predictions on images."""
