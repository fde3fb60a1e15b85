#!/usr/bin/env python3
"""Opens a qkdmail message with key files, without qkdmail.

It follows docs/format.md, for the suites AES-256-GCM and OTP. It holds the message
in memory, and writes nothing unless all of it is verified. It needs Python 3.11 and
cryptography (Debian: python3-cryptography). Its exit codes are those of qkdmail.
"""
import argparse, base64, binascii, hashlib, hmac, io, itertools, json, os, pathlib, quopri, re, struct, sys
import tempfile, urllib.parse, uuid

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.poly1305 import Poly1305

EXIT = {"usage": 64, "no-input": 66, "bad-key": 69, "no-output": 73, "io": 74, "no-key": 77, "key-file": 78}

class Refused(Exception):
    """The class of an error (its exit code is in EXIT, or 65), and what is wrong."""

def need(condition, text, error="damaged"):
    if not condition:
        raise Refused(error, text)

# Finding the message: section 2.2
CONTROL, PAYLOAD = b"application/vnd.qkdmail", b"application/octet-stream"
FIELD = re.compile(rb"(?m)^(?:\xef\xbb\xbf)?([!-9;-~]+)[ \t]*:(.*(?:\n[ \t].*)*)")
COMMENTS = re.compile(rb'(?s)(\\.|"(?:\\.|[^"\\])*+"|"[^;]*+)' + rb"|\((?:\\.|[^()\\]" * 10 + rb")*+\)" * 10)
PARAMETER = rb'(?s)"(?:\\.|[^"\\])*+"?|(?<![^\s;="])([^\s;="]+?)(\*\d+)?(\*)?\s*=\s*(?:%s|([^\s;]+))'
STRICT = re.compile(PARAMETER % rb'"((?:\\.|[^"\\])*+)"|"([^;]*)')
LENIENT = re.compile(PARAMETER % rb'"()([^";]*)"?')

class Part:
    """A message or a part of one; found lists the control parts in it, each with its payload."""
    def __init__(self, text, limit, depth):
        end = re.search(rb"(?m)^\r?\n|\Z", text)
        header, self.body, self.fields, self.found = text[:end.start()], text[end.end():], {}, []
        for name, value in FIELD.findall(header) if len(header) <= limit else []:
            self.fields.setdefault(name.lower(), []).append(re.sub(rb"\r?\n", b"", value).strip())
        raw = [self.fields.get(name, [b""])[0] for name in (b"content-type", b"content-transfer-encoding")]
        value, encoding = (COMMENTS.sub(lambda m: m[1] or b" ", x).strip() for x in raw)
        self.encoding = re.split(rb"[\s;]", encoding)[0].lower()
        self.type = re.sub(rb"\s", b"", re.match(rb"[^\s;/]*(\s*/\s*[^\s;]*)?", value)[0]).lower()
        readings = [[parameter(pattern, x, name) for name in (b"boundary", b"protocol")]
                    for pattern, x in ((STRICT, value), (LENIENT, raw[0]))]
        boundary, protocol = readings[0] if readings[0][0] else readings[1]
        if depth > 4 or not self.type.startswith(b"multipart/"):
            return
        delimiter = rb"(?m)^--%s(--)?[ \t]*\r?(?:\n|\Z)" % re.escape(boundary)
        _, *rest = re.split(delimiter, self.body) if 0 < len(boundary) <= 200 else [b""]
        texts = itertools.takewhile(lambda x: not x[0], zip(rest[::2], rest[1::2]))  # up to the closing delimiter
        parts = [Part(text, 1 << 16, depth + 1) for _, text in texts]
        if self.type == b"multipart/encrypted" and protocol.lower() == CONTROL:
            need([x.type for x in parts] == [CONTROL, PAYLOAD], "multipart/encrypted lacks its two parts")
        for part, following in zip(parts, parts[1:] + [None]):
            if part.type == CONTROL:
                need(following and following.type == PAYLOAD, "no payload follows the control part")
                self.found.append((part, following))
            self.found += part.found

def parameter(pattern, value, wanted):
    """Returns a parameter in any form of RFC 2231."""
    forms = {}
    for name, piece, coded, closed, unclosed, plain in pattern.findall(value):
        content = (re.sub(rb"(?s)\\(.)", rb"\1", closed) or unclosed or plain).rstrip()
        if coded:
            content = urllib.parse.unquote_to_bytes(content.split(b"'", 2 if piece in (b"", b"*0") else 0)[-1])
        if content and name.lower() == wanted:
            forms.setdefault(piece or coded, content)
    pieces = itertools.takewhile(bool, (forms.get(b"*%d" % i) for i in itertools.count()))
    return forms.get(b"*") or b"".join(pieces) or forms.get(b"", b"")

def find(text):
    """Returns the values of the control part, and the payload."""
    message = Part(text, 1 << 20, 1)
    outside = message.fields.get(b"qkdmail-key-id", [])
    need(message.found or outside, "it is ordinary mail", "not-encrypted")
    need(len(message.found) == 1, "there are several payloads, or none")
    control, payload = message.found[0]
    values = read_control(control)
    need({same(x) for x in outside} <= {same(values[b"key-id"])}, "Qkdmail-Key-ID names another key")
    need(payload.encoding == b"base64", "the payload is not in base64")
    text = re.sub(rb"\r?\n", b"", payload.body)
    octets = base64.b64decode(text)
    need(base64.b64encode(octets) == text, "the base64 of the payload is not canonical")
    return values, octets

# The control part and keys: sections 3 and 4
VALUES = [b"suite", b"time", b"sender-sae", b"recipient-sae", b"key-id"]  # as section 3.1 orders them
UUID = rb"(?i)(?:urn:uuid:)?X|\{X\}|[\da-f]{32}".replace(b"X", rb"[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}")

def read_control(part):
    decode = {b"base64": lambda x: base64.b64decode(x + b"=="), b"quoted-printable": quopri.decodestring}
    octets = decode.get(part.encoding, bytes)(part.body)
    lines = [line.removesuffix(b"\r").strip(b" \t") for line in octets.split(b"\n")]
    fields = [[x.strip(b" \t") for x in line.partition(b":")] for line in lines if line]
    values = {name.lower(): value for name, _, value in fields}
    need(all(value == b"1" for name, _, value in fields if name.lower() == b"version"), "an unknown version", "version")
    need(len(fields) == 6 and values.keys() == {b"version", *VALUES}, "fields are missing, repeated or unknown")
    need(all(re.fullmatch(rb"[!-~]{1,255}", x) for x in values.values()), "a value is empty, too long or broken")
    need(re.fullmatch(rb"0|[1-9]\d{0,18}", values[b"time"]) and int(values[b"time"]) < 1 << 63, "Time is broken")
    need(len(octets) <= 4096, "the control part is too long")
    return values

def same(key_id):
    """Returns a value that is equal for equal key IDs."""
    return uuid.UUID(key_id.decode().lower()) if re.fullmatch(UUID, key_id) else key_id

def escape(sae):
    octets = re.sub(rb"[^!-~]|%", lambda m: b"%%%02X" % m[0][0], os.fsencode(sae))
    return b"%2D" if octets == b"-" else octets or b"-"

def read_keys(path, text, keys):
    """Adds the keys in a file: JSON, or the table that "qkdmail key get --reveal" prints."""
    try:
        if text.startswith(b"KEY ID "):
            found = {line.split()[0]: line.split()[-1] for line in text.decode().splitlines()[1:]}
        else:
            found = json.loads(text)
            found = found.get("keys", [found]) if isinstance(found, dict) else found
        pairs = found.items() if isinstance(found, dict) else [(x.get("key_ID") or x["key_id"], x["key"]) for x in found]
        for key_id, key in pairs:
            key = base64.b64decode(key, validate=True)
            need(keys.setdefault(same(key_id.encode()), key) == key, f"two keys are named {key_id}", "bad-key")
    except (ValueError, LookupError, TypeError, AttributeError):
        raise Refused("key-file", f"{path} has no keys in a known form") from None

def fetch(keys, ids):
    for key_id in ids:
        need(same(key_id) in keys, f"the key {key_id.decode()} is in no key file", "no-key")
    found = [keys[same(key_id)] for key_id in ids]
    need(len(set(found)) == len(found), "a key has two IDs", "bad-key")
    need(all(len(set(key)) > 1 or len(key) < 8 for key in found), "all octets of a key are equal", "bad-key")
    return found

def open_aes(payload, control, keys, key_id):
    """Yields the plaintext, in pieces that are verified (section 5)."""
    need(len(payload) >= 80, "the payload is cut short")
    [key] = fetch(keys, [key_id])
    need(len(key) == 32, "the key does not have 256 bits", "wrong-key")
    labels = [b"qkdmail/1 A256GCM %s\0%s\1" % (name, control) for name in (b"commitment", b"chunks")]
    prk = hmac.digest(payload[:32], key, "sha256")
    commitment, chunk_key = (hmac.digest(prk, label, "sha256") for label in labels)  # HKDF-Expand
    need(hmac.compare_digest(commitment, payload[32:64]), "wrong key or altered header", "wrong-key")
    chunks = [payload[at:at + 65552] for at in range(64, len(payload), 65552)]
    need(len(chunks) == 1 or len(chunks[-1]) > 16, "it was cut short or extended", "altered")
    for i, chunk in enumerate(chunks):
        yield AESGCM(chunk_key).decrypt(i.to_bytes(11, "big") + bytes([i == len(chunks) - 1]), chunk, None)

def open_otp(payload, control, keys, key_id):
    """Yields the plaintext, in pieces that are verified (section 6)."""
    stream, seen, named, last, number = io.BytesIO(payload), set(), 0, 0, -1
    def take(size):
        octets = stream.read(size)
        need(len(octets) == size, "the payload is cut short")
        return octets
    while not last:
        number, begin, ids = number + 1, stream.tell(), []
        last, n = take(2)
        for _ in range(n):
            size = take(1)[0]
            ids.append(take(size) if size else str(uuid.UUID(bytes=take(16))).encode())
        [size] = struct.unpack(">I", take(4))
        need(last <= 1 and n and size <= 65536 and (size or last and not number), "a frame has a broken header")
        header, ciphertext, tag = payload[begin:stream.tell()], take(size), take(16)
        need(all(re.fullmatch(rb"[!-~]+", x) for x in ids), "a key ID is broken")
        seen.update(map(same, ids))
        need(len(seen) == (named := named + n), "a key is named twice")
        need(number or same(ids[0]) == same(key_id), "the first key is not that of the control part")
        need(not last or stream.tell() == len(payload), "something follows the last frame")
        first, *others = fetch(keys, ids)
        pad = first[32:] + b"".join(key[16:] for key in others)
        need(len(first) >= 32 and len(pad) >= size, "the keys are too short", "wrong-key")
        data = b"".join(x + bytes(-len(x) % 16) for x in (control, header, ciphertext))
        data += struct.pack("<4Q", len(control), len(header), size, number)
        Poly1305.verify_tag(first[16:32] + first[:16], data, tag)
        yield bytes(a ^ b for a, b in zip(ciphertext, pad))

def open_message(text, keys, sae, peer):
    """Returns the digests of the recipients, and the original message."""
    try:
        values, payload = find(text)
        suite, _, sender, recipient, key_id = parts = [values[name] for name in VALUES]
        open_suite = {b"AES-256-GCM": open_aes, b"OTP": open_otp}.get(suite)
        hint = "needs a private key too: only qkdmail opens it" if suite.endswith(b"+X-WING") else "is unknown"
        need(open_suite, f"the suite {suite.decode()} {hint}", "suite")
        need((sender, recipient) == (peer, sae) and (sender != sae or sae == b"-"),
             f"it is from {sender.decode()} to {recipient.decode()}: see --peer and --sae", "sae")
        control = b"qkdmail/1\n" + b"".join(struct.pack(">H", len(x)) + x for x in parts)
        octets = b"".join(open_suite(payload, control, keys, key_id))
    except binascii.Error:
        raise Refused("damaged", "its base64 is broken") from None
    except (InvalidTag, InvalidSignature):
        raise Refused("altered", "it was altered: do not trust it") from None
    end = 4 + 16 * int.from_bytes(octets[:4], "big")  # of the list of recipients
    need(4 <= len(octets) >= end <= 4 + 16 * 4096, "the list of recipients is broken")
    return [octets[at:at + 16] for at in range(4, end, 16)], octets[end:]

def digest(address):
    """Returns the digest of an address in US-ASCII (section 11.1)."""
    need(address.isascii(), "--to takes US-ASCII only", "usage")
    local, domain = re.fullmatch(r'(?s)<?(?:@[^":]*:)?(.*?)(@[^@"]*?)?\.*>?', address.lower()).groups("")
    if quoted := re.fullmatch(r'(?s)"(.*)"', local):
        local = re.sub(r"(?s)\\(.)", r"\1", quoted[1])
    if not re.fullmatch(r'([^\s()<>[\]:;@\\,."]+\.)*[^\s()<>[\]:;@\\,."]+', local):
        local = '"' + re.sub(r'["\\]', r"\\\g<0>", local) + '"'
    return hashlib.sha256(f"qkdmail/1 recipient\0{local}{domain}".encode()).digest()[:16]

def write(path, octets):
    """Writes to standard output, or to a file that appears only when it is complete."""
    with open(1, "wb", closefd=False) if path == "-" else tempfile.NamedTemporaryFile(dir=os.path.dirname(path)) as out:
        out.write(octets)
        out.flush()
        if path != "-":
            os.fsync(out.fileno())
            os.link(out.name, path)  # which fails if path is there already

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = lambda text: need(False, text + ": see --help", "usage")
    parser.add_argument("message", metavar="MESSAGE", help="the encrypted message, a file")
    parser.add_argument("--keys", metavar="FILE", action="append", required=True, help="a file with keys; may be repeated")
    parser.add_argument("--sae", default="", help="SAE ID of the recipient's site, if the message has one")
    parser.add_argument("--peer", default="", help="SAE ID of the sender's site, if the message has one")
    parser.add_argument("-o", metavar="OUT", default="-", help="write the original message to this new file")
    parser.add_argument("--recipients", action="store_true", help="show whom it is sealed for, as digests of addresses")
    parser.add_argument("--to", metavar="ADDRESS", help="refuse it if it is sealed only for others")
    try:
        args, keys = parser.parse_args(), {}
        for path in args.keys:
            read_keys(path, pathlib.Path(path).read_bytes(), keys)
        text = pathlib.Path(args.message).read_bytes()
        recipients, original = open_message(text, keys, escape(args.sae), escape(args.peer))
        for name in [x.hex() for x in recipients] or ["anyone"] if args.recipients else []:
            print("sealed for", name, file=sys.stderr)
        if args.to is not None:
            need(digest(args.to) in recipients or not recipients, "it is sealed for others", "recipient")
            print("sealed for", args.to if recipients else "anyone", file=sys.stderr)
        write(args.o, original)
        return 0
    except Refused as error:
        kind, text = error.args
    except OSError as error:
        path = error.filename if error.filename in (args.message, *args.keys) else args.o
        kind = "no-input" if path != args.o else "io" if path == "-" or not error.filename else "no-output"
        text = f"{path}: {error.strerror}"
    print(f"open-message.py: {kind}: {text}", file=sys.stderr)
    return EXIT.get(kind, 65)

sys.exit(main())
