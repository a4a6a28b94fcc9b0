"""HTTP/2 by hand: enough to speak gRPC without a client, and to send what no client would."""
import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
STATIC = (":authority", ":method GET", ":method POST", ":path /", ":path /index.html", ":scheme http", ":scheme https", ":status 200", ":status 204",
          ":status 206", ":status 304", ":status 400", ":status 404", ":status 500", "accept-charset", "accept-encoding gzip, deflate", "accept-language",
          "accept-ranges", "accept", "access-control-allow-origin", "age", "allow", "authorization", "cache-control", "content-disposition",
          "content-encoding", "content-language", "content-length", "content-location", "content-range", "content-type", "cookie", "date", "etag", "expect",
          "expires", "from", "host", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified", "link", "location",
          "max-forwards", "proxy-authenticate", "proxy-authorization", "range", "referer", "refresh", "retry-after", "server", "set-cookie",
          "strict-transport-security", "transfer-encoding", "user-agent", "vary", "via", "www-authenticate")
# RFC 7541's code is canonical: the lengths (A is 5) of its 257 symbols are all of it.
LENGTHS = ("ISXXXXXXXTZXXZXXXXXXXXZXXXXXXXXXBFFHIBDGFFDGDBBBAAABBBBBBBCDKBHFIBCCCCCCCCCCCCCCCCCCCCCCDCDIOIJBKABABABBBACCBBBABCBAABCCCCCKGJIXPRPPRRRSRSSSSST"
           "STTRSTSSSSQRSRSSTRQPRRSSQSRRTQRSSQQRQSRSSPRRRSRRSVVPORSRUVVVWWVTUOQVWWVWTQQVVXWWWPTPQRQQSRRUUTTVSVWVVWWWWWXWWWWWVZ")


def huffman_codes():
    codes, code, before = {}, 0, 0
    for symbol in sorted(range(257), key=lambda i: (LENGTHS[i], i)):
        length = ord(LENGTHS[symbol]) - 60
        code <<= length - before
        before = length
        codes[length, code] = symbol
        code += 1
    return codes


CODES = huffman_codes()


def huffman(data):
    out, code, length = bytearray(), 0, 0
    for byte in data:
        for bit in range(7, -1, -1):
            code, length = code << 1 | byte >> bit & 1, length + 1
            if (length, code) in CODES:
                out.append(CODES[length, code] & 255)
                code, length = 0, 0
    return bytes(out)


class Headers:
    """Decodes header blocks of one connection."""

    def __init__(self):
        self.table = []

    def decode(self, block):
        found, i = [], 0

        def integer(bits):
            nonlocal i
            value = block[i] & (1 << bits) - 1
            i += 1
            if value == (1 << bits) - 1:
                shift = 0
                while True:
                    byte = block[i]
                    i += 1
                    value += (byte & 127) << shift
                    shift += 7
                    if not byte & 128:
                        break
            return value

        def text():
            nonlocal i
            packed = block[i] & 128
            length = integer(7)
            data = block[i:i + length]
            i += length
            return (huffman(data) if packed else data).decode("latin-1")

        def entry(index):
            if index <= len(STATIC):
                name, _, value = STATIC[index - 1].partition(" ")
                return name, value
            return self.table[index - len(STATIC) - 1]

        while i < len(block):
            byte = block[i]
            if byte & 128:
                found.append(entry(integer(7)))
            elif byte & 0xE0 == 0x20:
                integer(5)
            else:
                keeps = byte & 0xC0 == 0x40
                index = integer(6 if keeps else 4)
                name = entry(index)[0] if index else text()
                found.append((name, text()))
                if keeps:
                    self.table.insert(0, found[-1])
        return dict(found)


def literal(name, value):
    """A header that no table keeps."""
    def text(data):
        data = data.encode("latin-1") if isinstance(data, str) else data
        size = bytes([len(data)]) if len(data) < 127 else b"\x7f" + varint(len(data) - 127)
        return size + data
    return b"\x00" + text(name) + text(value)


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class Connection:
    def __init__(self, host, port, timeout=20):
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.headers, self.buffer, self.stream = Headers(), b"", 1
        self.window, self.stream_window = 65_535, 65_535
        self.send(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 24)) + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 24)))

    def send(self, data):
        self.socket.sendall(data)

    def close(self):
        self.socket.close()

    def read(self):
        """The next frame (kind, flags, stream, payload); None at the end of the connection."""
        while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
            data = self.socket.recv(1 << 16)
            if not data:
                return None
            self.buffer += data
        length = int.from_bytes(self.buffer[:3], "big")
        kind, flags, stream = self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big") & 0x7FFFFFFF
        payload, self.buffer = self.buffer[9:9 + length], self.buffer[9 + length:]
        if kind == SETTINGS and not flags & 1:
            for i in range(0, len(payload) - 5, 6):
                name, value = struct.unpack_from(">HI", payload, i)
                if name == 4:
                    self.stream_window += value - 65_535 if not hasattr(self, "told") else 0
                    self.told = True
            self.send(frame(SETTINGS, 1, 0))
        elif kind == PING and not flags & 1:
            self.send(frame(PING, 1, 0, payload))
        elif kind == WINDOW_UPDATE and stream == 0:
            self.window += int.from_bytes(payload, "big")
        return kind, flags, stream, payload

    def request_headers(self, path, extra=(), method="POST", content_type="application/grpc", authority="localhost"):
        block = literal(":method", method) + literal(":scheme", "http") + literal(":path", path) + literal(":authority", authority)
        block += literal("te", "trailers") + (literal("content-type", content_type) if content_type else b"")
        return block + b"".join(literal(name, value) for name, value in extra)

    def begin(self, path, extra=(), end=False, **options):
        stream, self.stream = self.stream, self.stream + 2
        self.send(frame(HEADERS, 5 if end else 4, stream, self.request_headers(path, extra, **options)))
        return stream

    def data(self, stream, payload, end=True):
        """Sends within the windows that the server gives."""
        left, window = payload, self.stream_window
        while True:
            part = left[:min(16_384, max(0, self.window), max(0, window))]
            if part or not left:
                left = left[len(part):]
                self.send(frame(DATA, 1 if end and not left else 0, stream, part))
                self.window -= len(part)
                window -= len(part)
                if not left:
                    return None
            else:
                got = self.read()
                if got is None:
                    raise ConnectionError("closed while sending")
                kind, flags, of, body = got
                if kind == WINDOW_UPDATE and of == stream:
                    window += int.from_bytes(body, "big")
                elif of == stream and kind in (HEADERS, RST_STREAM):
                    self.early = got
                    return got  # answered before all was sent

    def answer(self, stream, seconds=20):
        """What came for a stream: headers, data, trailers (as one mapping with the headers), reset (its code), goaway (its code)."""
        found = {"headers": {}, "data": b"", "reset": None, "goaway": None}
        until = time.monotonic() + seconds
        early, self.early = getattr(self, "early", None), None
        while time.monotonic() < until:
            got = early or self.read()
            early = None
            if got is None:
                found["closed"] = True
                return found
            kind, flags, of, payload = got
            if kind == GOAWAY:
                found["goaway"] = struct.unpack(">I", payload[4:8])[0]
            if kind == HEADERS:
                decoded = self.headers.decode(payload)
                if of == stream:
                    found["headers"].update(decoded)
            if of != stream:
                continue
            if kind == DATA:
                found["data"] += payload
            if kind == RST_STREAM:
                found["reset"] = struct.unpack(">I", payload)[0]
                return found
            if kind in (HEADERS, DATA) and flags & 1:
                return found
        return found


def message(payload, flag=0, length=None):
    """gRPC's framing."""
    return bytes([flag]) + struct.pack(">I", len(payload) if length is None else length) + payload


# MARK: Protobuf by hand

def part(number, payload):
    payload = payload.encode() if isinstance(payload, str) else payload
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def infer_request(model, inputs, raw, outputs=()):
    """inference.ModelInferRequest; inputs as (name, type, sizes)."""
    body = part(1, model)
    for name, kind, sizes in inputs:
        body += part(5, part(1, name) + part(2, kind) + part(3, b"".join(varint(size & (1 << 64) - 1) for size in sizes)))
    for name in outputs:
        body += part(6, part(1, name))
    return body + b"".join(part(7, data) for data in raw)
