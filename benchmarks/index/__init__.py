"""The index beside its peers: recall against CPU time, filters, opening, changes, size; and updates of many files."""
