"""A loopback Hub for tests: a small, strict server of the Hugging Face Hub's protocol.

The real `huggingface_hub` client, `transformers` and the `hf` command run against it unchanged, with HF_ENDPOINT set.
Everything is in memory. `python -m tests.hub` starts it by hand; tests use the fixtures of `tests.hub.fixtures`.

Routes by module:
    accounts.py  tokens, who may read and write what, whoami
    repos.py     create, delete, move, settings, info, auth-check, refs, branches, tags, the list of commits
    files.py     tree, paths-info, preupload, commit, resolve and the downloads behind it
    lfs.py       the LFS batch, its uploads in one and in several parts, the tokens for Xet
    metadata.py  validate-yaml
    pulls.py     discussions and pull requests
    social.py    collections
    spaces.py    Spaces: variables, secrets, hardware, runtime
    jobs.py      jobs and buckets
and behind them: store.py (the state), xet.py (reads what hf_xet wrote), wire.py (errors, checks, dependencies),
faults.py (the log of requests and the faults), server.py (start, stop, reset).
"""
