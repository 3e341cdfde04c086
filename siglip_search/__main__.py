"""`python -m siglip_search` is the command `siglip-search`."""

from siglip_search.cli import main

if __name__ == "__main__":
    main()
