"""`python -m axion …`."""

from axion.cli import main

if __name__ == "__main__":
    main()
