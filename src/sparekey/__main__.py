"""`python -m sparekey` is `sparekey`."""

from sparekey.cli import main

main()
