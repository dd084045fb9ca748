"""`python -m picoquant` is the same as `picoquant`."""

from picoquant.cli.main import main

if __name__ == "__main__":
    main()
