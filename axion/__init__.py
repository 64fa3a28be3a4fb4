"""Axion: tiny language models with DeepSeek-V3's architecture, trained from scratch on an ordinary CPU."""

from axion.threads import spin_shortly

__version__ = "0.1.0"

spin_shortly()
