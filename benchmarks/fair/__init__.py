"""The fair comparison: networks of equal size, trained for the same time on the same clips, see docs/comparison.md."""
