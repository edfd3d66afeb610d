"""`python -m benchmarks`: the measurements behind the README's figures."""

from benchmarks.cli import main

main()
