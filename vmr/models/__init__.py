"""Encoders: what turns videos and texts into vectors of one space."""
