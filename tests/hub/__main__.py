"""`python -m tests.hub [--port 8765] [--token hf_…]`: serve a loopback Hub, in memory, until Ctrl-C."""

import argparse
import signal
import time

from tests.hub.accounts import SOMEONE, Token
from tests.hub.server import Hub


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hub", description="A Hugging Face Hub on this machine.")
    parser.add_argument("--port", type=int, default=8765, help="8765 unless told; 0 for any that is free")
    parser.add_argument("--token", default=SOMEONE, help="the token of the account `someone`, for tests only")
    options = parser.parse_args()
    try:
        hub = Hub(options.port)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "there is no such port"
        parser.exit(2, f"Port {options.port} can't be opened: {why}; choose another with --port\n")
    hub.token = options.token
    hub.store.tokens[options.token] = Token("someone")
    hub.start()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for name, value in hub.variables.items():
        print(f"export {name}={value}")
    print(f"\nA Hub runs at {hub.url}. Set these in another terminal; Ctrl-C ends it all.", flush=True)
    try:
        while hub.thread.is_alive():
            time.sleep(0.2)
            while hub.surprises:
                print(f"Surprise: {hub.surprises.pop(0)}", flush=True)
    except KeyboardInterrupt:
        print()
    finally:
        hub.stop()


if __name__ == "__main__":
    main()
