"""From a recipe to a tagged release on the Hugging Face Hub: train, evaluate, build, verify, push, tag."""
