"""Protocols, metrics and reports: what a retrieval score is, exactly."""
