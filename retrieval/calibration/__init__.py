"""Whether a query is about anything that an index shows, as far as its encoder can tell.

An index is calibrated with sentences that come with vmr: some are about what can be seen in videos, the others are
about nothing visible. May import vmr.models.encoder, vmr.retrieval.texts, and the packages storage and vectors.
"""
