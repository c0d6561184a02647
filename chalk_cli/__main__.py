"""`python -m chalk_cli`."""

from chalk_cli.main import main

main()
