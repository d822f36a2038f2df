"""`python -m alm_proxies`: the command line, where its program is not on the path."""

from alm_proxies.cli.start import main

if __name__ == "__main__":
    main()
