"""The result of an evaluation of a classifier, `report.ClassificationReport`: saved as JSON, Markdown, HTML, compared.

The other modules show parts of a report; use them through its methods. Imports no torch; may import the parts that
reports of retrieval have too (`vmr.eval.report`).
"""
