"""Axion: tiny language models with DeepSeek-V3's architecture, trained from scratch on an ordinary CPU."""

__version__ = "0.1.0"
