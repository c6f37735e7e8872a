"""The encoders behind `vmr.load_model`: one file for each family of models.

The only package that knows all kinds of models: imports `upstream`, `text`, `videomamba` and files beside them. Only
`catalogue` and `saved_model` of `vmr.models` import it.
"""
