"""Reads every message in a folder with Python's email package and prints the
defects that it reports in a message, a part or a header field."""
import email
import email.policy
import pathlib
import sys

read = bad = 0
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    defects = []
    for part in message.walk():
        defects += part.defects
        for name, value in part.items():
            defects += [f"{name}: {d!r}" for d in value.defects]
    if [p.get_content_type() for p in message.walk()] != [
        "multipart/mixed", "text/plain", "multipart/encrypted",
        "application/vnd.qkdmail", "application/octet-stream",
    ]:
        defects.append("not the parts of a qkdmail message")
    read += 1
    if defects:
        bad += 1
        print(path.name, defects)
print(f"Python {sys.version.split()[0]} read {read} messages, {bad} with defects")
sys.exit(bad > 0 or read == 0)
