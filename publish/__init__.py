"""From a recipe to a tagged release on the Hugging Face Hub: train, evaluate, build, verify, push, tag.

Rooms, from top to bottom: cli, pipeline, jobs, space, hub, release, check, then markdown, manifest and steps.
Each imports only from `axion` and from rooms that come after it; `tests/test_structure.py` checks that.
"""
