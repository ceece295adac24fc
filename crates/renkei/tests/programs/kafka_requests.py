"""Every request of every version in Kafka's message definitions, sent by hand.

The definitions are those within the clients' jar. Arguments: the jar, then one of
- `versions`: prints name, highest version and first compact version of each request as JSON;
- `requests`: prints key, version and content of each request, in hexadecimal;
- an address: sends each on a connection of its own, and prints as JSON how each was answered.
"""

import json
import re
import socket
import struct
import sys
import zipfile

CORRELATION = 7
UNSUPPORTED_VERSION = 35
# What older definitions have and those of today no longer do: behind which field, and its version.
REMOVED = {
    ("request", 2, "Timestamp"): {"name": "MaxNumOffsets", "type": "int32", "versions": "0"},
    ("response", 2, "ErrorCode"): {"name": "Offsets", "type": "[]int64", "versions": "0"},
    ("request", 8, "CommittedLeaderEpoch"): {"name": "Time", "type": "int64", "versions": "1"},
}
# What is before it on its line may have two slashes in a string.
COMMENT = r'^((?:[^"\n]|"(?:[^"\\\n]|\\.)*")*?)//.*$'
SIZES = {"bool": ">b", "int8": ">b", "int16": ">h", "uint16": ">H", "int32": ">i", "int64": ">q"}
SIZES |= {"uint32": ">I", "float64": ">d"}


def load(jar):
    """Requests and responses by key."""
    found = {"request": {}, "response": {}}
    with zipfile.ZipFile(jar) as archive:
        for name in archive.namelist():
            if not re.fullmatch(r"common/message/\w+\.json", name):
                continue
            text = archive.read(name).decode()
            message = json.loads(re.sub(COMMENT, r"\1", text, flags=re.M))
            if message["type"] in found and message["validVersions"] != "none":
                found[message["type"]][message["apiKey"]] = message
    return found["request"], found["response"]


def within(versions, version):
    if versions in (None, "none"):
        return False
    first, _, last = versions.partition("-")
    if first.endswith("+"):
        return version >= int(first[:-1])
    return int(first) <= version <= int(last or first)


def last_version(message):
    return int(message["validVersions"].split("-")[-1])


class Form:
    """A message in one version."""

    def __init__(self, message, version):
        self.kind, self.version = (message["type"], message["apiKey"]), version
        self.fields = message["fields"]
        self.flexible = within(message.get("flexibleVersions", "none"), version)
        self.structs = {one["name"]: one["fields"] for one in message.get("commonStructs", [])}

    def present(self, fields):
        for field in fields:
            if within(field["versions"], self.version) and not self.is_tagged(field):
                yield field
            added = REMOVED.get((*self.kind, field["name"]))
            if added and within(added["versions"], self.version):
                yield added

    def is_tagged(self, field):
        return within(field.get("taggedVersions", "none"), self.version)

    def is_nullable(self, field):
        return within(field.get("nullableVersions", "none"), self.version)

    def of(self, kind, field):
        return field.get("fields") or self.structs.get(kind)


def uvarint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


class Writer(Form):
    """Writes a request: one element in each list, and a value in each field."""

    def structure(self, fields):
        out = b"".join(self.field(field, field["type"]) for field in self.present(fields))
        return out + (b"\0" if self.flexible else b"")

    def count(self, number):
        return uvarint(number + 1) if self.flexible else struct.pack(">i", number)

    def field(self, field, kind):
        if kind.startswith("[]"):
            return self.count(1) + self.field({**field, "nullableVersions": "none"}, kind[2:])
        if kind in SIZES:
            return struct.pack(SIZES[kind], self.number(field))
        if kind == "uuid":
            return bytes(range(1, 17))
        if kind == "string":
            text = b"quakes"
            length = uvarint(len(text) + 1) if self.flexible else struct.pack(">h", len(text))
            return length + text
        if kind in ("bytes", "records"):
            return self.count(3) + b"abc"
        one = self.structure(self.of(kind, field))
        return b"\1" + one if self.is_nullable(field) else one

    @staticmethod
    def number(field):
        if field["name"] in ("ReplicaId", "SessionEpoch"):
            return -1
        return 1 if field["name"] == "Acks" else 0


class Reader(Form):
    """Reads an answer to its end."""

    def __init__(self, message, version, content):
        super().__init__(message, version)
        self.content, self.at = content, 0

    def take(self, count):
        taken = self.content[self.at : self.at + count]
        assert len(taken) == count, "the answer ends within a field"
        self.at += count
        return taken

    def uvarint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def tags(self):
        for _ in range(self.uvarint() if self.flexible else 0):
            self.uvarint()
            self.take(self.uvarint())

    def structure(self, fields):
        read = {field["name"]: self.field(field, field["type"]) for field in self.present(fields)}
        self.tags()
        return read

    def count(self, short=False):
        if self.flexible:
            return self.uvarint() - 1
        return struct.unpack(">h", self.take(2))[0] if short else struct.unpack(">i", self.take(4))[0]

    def field(self, field, kind):
        if kind.startswith("[]"):
            count = self.count()
            assert count >= 0 or self.is_nullable(field), f"{field['name']} is null"
            inner = {**field, "nullableVersions": "none"}
            return [self.field(inner, kind[2:]) for _ in range(max(count, 0))]
        if kind in SIZES:
            return struct.unpack(SIZES[kind], self.take(struct.calcsize(SIZES[kind])))[0]
        if kind == "uuid":
            return self.take(16).hex()
        if kind in ("string", "bytes", "records"):
            count = self.count(short=kind == "string")
            assert count >= 0 or self.is_nullable(field), f"{field['name']} is null"
            return None if count < 0 else self.take(count).decode(errors="replace")
        if self.is_nullable(field) and struct.unpack(">b", self.take(1))[0] < 0:
            return None
        return self.structure(self.of(kind, field))


def errors(read):
    """All error codes in an answer."""
    if isinstance(read, list):
        return [code for one in read for code in errors(one)]
    if not isinstance(read, dict):
        return []
    codes = [value for name, value in read.items() if name.endswith("ErrorCode")]
    return codes + [code for value in read.values() for code in errors(value)]


def content(message, version):
    head = struct.pack(">hhih", message["apiKey"], version, CORRELATION, -1)
    form = Writer(message, version)
    return head + (b"\0" if form.flexible else b"") + form.structure(form.fields)


def frame(stream):
    size = b""
    while len(size) < 4:
        part = stream.recv(4 - len(size))
        if not part:
            return None
        size += part
    return stream.recv(struct.unpack(">i", size)[0], socket.MSG_WAITALL)


def ask(address, request, response, version):
    """How a request is answered: its error codes, or what else becomes of it."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 60) as stream:
        sent = content(request, version)
        stream.sendall(struct.pack(">i", len(sent)) + sent)
        try:
            answer = frame(stream)
        except ConnectionResetError:
            return "reset"
        except TimeoutError:
            return "silence"
    if answer is None:
        return "closed"
    key = request["apiKey"]
    reader = Reader(response, version, answer)
    assert struct.unpack(">i", reader.take(4))[0] == CORRELATION
    if key != 18:
        reader.tags()
    if key == 18 and struct.unpack(">h", answer[4:6])[0] == UNSUPPORTED_VERSION:
        reader.version, reader.flexible = 0, False
    try:
        read = reader.structure(reader.fields)
    except AssertionError as fault:
        return f"malformed: {fault}"
    if reader.at != len(answer):
        return f"malformed: {len(answer) - reader.at} bytes are left over"
    return sorted(set(errors(read)))


def main():
    requests, responses = load(sys.argv[1])
    what = sys.argv[2]
    if what == "versions":
        compact = {key: one.get("flexibleVersions", "none") for key, one in requests.items()}
        print(json.dumps([
            [key, one["name"].removesuffix("Request"), last_version(one),
             None if compact[key] == "none" else int(compact[key].rstrip("+"))]
            for key, one in sorted(requests.items())
        ]))
        return
    every = [
        (key, version)
        for key in sorted(requests)
        for version in range(last_version(requests[key]) + 1)
    ]
    if what == "requests":
        for key, version in every:
            print(key, version, content(requests[key], version).hex())
        return
    print(json.dumps([
        [requests[key]["name"].removesuffix("Request"), version,
         ask(what, requests[key], responses[key], version)]
        for key, version in every
    ]))


main()
