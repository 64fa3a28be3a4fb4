"""The playground: `python app.py [--host HOST] [--port PORT] [--share] [--models RELEASE …]`."""

from playground.server.launch import main

if __name__ == "__main__":
    main()
