"""The page where visitors watch the experts at work. It reads releases and knows nothing of training."""
