"""`python -m tinyslm`: the same as the program `tinyslm`."""

from tinyslm.cli import main

if __name__ == "__main__":
    main()
