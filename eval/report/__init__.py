"""What an evaluation found: the report as JSON, Markdown and a page, and the comparison of two reports.

Imports `metrics`, and no torch.
"""
