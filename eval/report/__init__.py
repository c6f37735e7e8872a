"""The result of an evaluation: `report.Report`, which can be saved as JSON, Markdown or HTML, and compared.

The other modules show parts of a report; use them through the methods of `Report`.
Of the packages of `vmr.eval`, it imports only `metrics`; it imports no torch.
"""
