"""`python -m vmr.cli.eval`, which torchrun starts."""

from vmr.cli.eval import main

main()
