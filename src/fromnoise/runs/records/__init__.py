"""The JSON files of a run as typed records. Whatever is read from them is checked here, and only here.

base       the base class and its checks
run        run.json
manifest   manifest.json of a checkpoint
events     events.jsonl, sessions.jsonl, outputs.jsonl
report     report.json
"""
