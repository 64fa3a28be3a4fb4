"""The playground, where visitors watch the experts at work. It reads releases and knows nothing about training."""
