"""The command line: `python -m playground.web RELEASE … --out DIR`."""

import argparse
import json
import sys
from pathlib import Path

from axion.errors import AxionError


def main() -> int:
    """Write the page; a user's mistake is one line on standard error and exit code 2."""
    parser = argparse.ArgumentParser(prog="playground.web", description="Write the page without a server.")
    parser.add_argument("releases", nargs="+", metavar="RELEASE")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--weights-on-hub", action="store_true", help="browsers read the weights of Hub ids there")
    options = parser.parse_args()
    from playground.web.assemble import write_page

    try:
        written = write_page(options.releases, options.out, options.weights_on_hub)
    except AxionError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps({name: str(path) for name, path in written.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
