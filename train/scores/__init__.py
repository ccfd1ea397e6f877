"""Scores of generated frames: picture measures, face detection, perceptual distances, what a judge reads off."""
