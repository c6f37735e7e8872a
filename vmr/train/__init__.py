"""Training of video-text models."""
