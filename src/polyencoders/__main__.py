"""`python -m polyencoders` is `polyencoders`."""

from polyencoders.cli import main

main()
