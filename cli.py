"""The command line from a bare checkout: ``python cli.py sweep quick``, nothing installed."""

from gspn2bench.app import main

if __name__ == "__main__":
    main()
