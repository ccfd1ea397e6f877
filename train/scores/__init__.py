"""Scores of generated frames: picture measures, detection, perceptual distances, and what a judge reads off them."""
