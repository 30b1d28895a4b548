"""`python -m fastent` is the command `fastent`."""

from fastent.cli.main import main

if __name__ == "__main__":
    main()
