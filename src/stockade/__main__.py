"""`python -m stockade`: the same as the `stockade` command."""

from stockade.cli.main import main

if __name__ == "__main__":
    main()
