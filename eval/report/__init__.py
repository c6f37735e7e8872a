"""What an evaluation found: `report.Report`, which can be saved as JSON, Markdown and HTML, and compared with another.

The other modules show parts of a report; reach them through the methods of `Report`.
Imports `metrics` of the rooms of `vmr.eval`, and no torch.
"""
