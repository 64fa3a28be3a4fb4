"""The page without a server: the decoder for browsers, its engine in JavaScript, and the host of the views."""
