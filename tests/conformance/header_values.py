"""Random header values: those that clients send, changed at random, and random bytes.

Every value is a valid field value (RFC 9110, 5.5), which no server may reject for its syntax.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from random import Random

from tests.conformance.draw import LOGGABLE_IDS, TRACEPARENTS, UNSAFE_IDS, Headers, words

TYPICAL_VALUES: Mapping[str, Sequence[str]] = {
    "Accept": (
        *("*/*", "application/json", "text/html", "text/csv;q=0.5, */*;q=0.1", "image/*"),
        *("application/problem+json", "text/plain;version=0.0.4", "text/plain;version=x"),
        *("application/openmetrics-text;version=1.0.0;escaping=underscores", "text/plain;q=1.0001"),
        *("text/plain;version=1.0.0;escaping=allow-utf-8", 'text/plain;version="0.0.4"', ";", ","),
    ),
    "Accept-Charset": ("utf-8", "iso-8859-1;q=0.5, *;q=0.1"),
    "Accept-Encoding": ("gzip", "br, gzip;q=0.5, *;q=0", "identity;q=0", "zstd"),
    "Accept-Language": ("en", "de-DE, de;q=0.9, *;q=0.5"),
    "Access-Control-Request-Headers": ("content-type, x-api-key", "*"),
    "Access-Control-Request-Method": ("POST", "BREW"),
    "Authorization": ("Basic Og==", "Bearer x", "Bearer", "Digest username=a, uri=/", "Negotiate"),
    "Cache-Control": ("no-cache", "max-age=0", "only-if-cached"),
    "Content-Encoding": ("gzip", "deflate", "identity", "br", "gzip, gzip"),
    "Content-Language": ("en",),
    "Content-Type": (
        *("application/json", "text/csv", "application/octet-stream", "text/csv; header=absent"),
        *("multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "a/b"),
        *("application/json; charset=utf-7", "application/octet-stream; dtype=float32; rows=1"),
    ),
    "Cookie": ("session=a", "a=b; a=c; =; ;", '__Host-a="\\073"'),
    "Date": ("Tue, 15 Nov 1994 08:12:31 GMT", "x"),
    "DNT": ("1",),
    "Forwarded": ("for=1.2.3.4;host=evil;proto=https",),
    "From": ("a@example.org",),
    "Host": ("localhost:8000", "example.org", "[::1]:80", "[::1", "a/b?c#d", "a@b", ":0", "a b"),
    "If-Match": ("*", '"a"', 'W/"a"'),
    "If-Modified-Since": ("Tue, 15 Nov 1994 08:12:31 GMT", "Tue, 99 Nov 99999 08:12:31 GMT"),
    "If-None-Match": ("*", '"a"', 'W/"a", "b"'),
    "If-Range": ('"a"', "Tue, 15 Nov 1994 08:12:31 GMT"),
    "If-Unmodified-Since": ("Tue, 15 Nov 1994 08:12:31 GMT",),
    "Inference-Header-Content-Length": ("0", "1", "-1", "9" * 30, "1e2", "1, 1"),
    "Max-Forwards": ("0", "10"),
    "Origin": ("https://example.org", "null", "https://[::1", "file://"),
    "Pragma": ("no-cache",),
    "Priority": ("u=1, i",),
    "Proxy-Authorization": ("Basic Og==",),
    "Range": ("bytes=0-3", "bytes=-1", "bytes=5-2", "bytes=0-0,1-1", "rows=1-2"),
    "Referer": ("https://example.org/a?b#c", "about:blank"),
    "Sec-Fetch-Mode": ("cors", "navigate"),
    "Sec-WebSocket-Key": ("dGhlIHNhbXBsZSBub25jZQ==",),
    "TE": ("trailers", "deflate;q=0.5"),
    "Trailer": ("Expires", "Content-Length"),
    "Upgrade": ("websocket", "h2c", "TLS/1.0", "HTTP/2.0, SHTTP/1.3"),
    "User-Agent": ("curl/8.5.0", "Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Gecko/20100101"),
    "Via": ("1.0 fred, 1.1 p.example.net",),
    "X-API-Key": ("x",),
    "X-Forwarded-For": ("1.2.3.4, ::1", "unknown"),
    "X-Forwarded-Host": ("evil", "a, b"),
    "X-Forwarded-Prefix": ("/prefix",),
    "X-Forwarded-Proto": ("https", "ftp"),
    "X-HTTP-Method-Override": ("DELETE",),
    "X-Original-URL": ("/model",),
    "X-Real-IP": ("::1",),
    "X-Request-ID": tuple(v for v in (*LOGGABLE_IDS, *UNSAFE_IDS) if isinstance(v, str)),
    "X-Unknown": ("a",),
    "traceparent": tuple(value for value in TRACEPARENTS if isinstance(value, str)),
    "tracestate": ("a=b,c=d",),
    # Names that a WSGI server might confuse with another header's name.
    **dict.fromkeys(words("Content_Length Content_Type Transfer_Encoding HTTP_HOST"), ("5", "x")),
    **dict.fromkeys(words("!#$%&'*+.^_`|~ wsgi.input PATH_INFO REQUEST_METHOD"), ("a",)),
}
"""Values that clients send, by header, for all headers that frame no message."""
READ_NAMES = words("""
    Accept Accept Accept Content-Type Content-Encoding Inference-Header-Content-Length Host Origin
    Authorization X-API-Key X-Request-ID traceparent Upgrade
""")
"""Headers that the service reads; they are drawn more often than others."""
NAMES = tuple(TYPICAL_VALUES)
LONG_BYTES = 50_000
"""Length of a very long value."""
MAX_BYTES = 300_000
"""Maximum length of all values together; the host rejects headers of 400 kB or more."""
FIELD_BYTES = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
"""All bytes of which a field value may consist."""
PARTS = (
    *(b",", b";", b"=", b'"', b";q=", b";q=0.5", b";version=x", b";charset=", b"*", b"/", b"%00"),
    *(b"\t", b"  ", b"\xff", b"\xc3\xa9", b"\\", b"(", b"-1", b"0" * 400, b"1e999", b"{}", b"${x}"),
)


def header_value(random: Random, typical: Sequence[str]) -> bytes:
    """Return a typical value, perhaps changed, or random bytes."""
    fraction = random.random()
    if fraction < 0.1:
        return bytes(random.choices(FIELD_BYTES, k=random.choice((0, 1, 2, 50, 3000))))
    value = random.choice(typical).encode("latin-1")
    if fraction < 0.13:
        return (value or b"a") * (LONG_BYTES // len(value or b"a"))
    for _ in range(random.choice((0, 0, 1, 1, 2, 5))):
        value = mutate(random, value)
    return value[:LONG_BYTES]


def mutate(random: Random, value: bytes) -> bytes:
    """Return a value with one random change."""
    start = random.randrange(len(value) + 1)
    end = random.randrange(start, len(value) + 1)
    match random.randrange(6):
        case 0:
            return value[:start] + value[end:]
        case 1:
            return value[:start] + random.choice(PARTS) + value[start:]
        case 2:
            return value[:start] + bytes([random.choice(FIELD_BYTES)]) + value[start:]
        case 3:
            return value[:start] + value[start:end] * random.choice((2, 20)) + value[end:]
        case 4:
            return value.swapcase()
        case _:
            return b", ".join([value] * random.choice((2, 30)))


def random_headers(random: Random, exclude: Sequence[str] = ()) -> Headers:
    """Return some headers, perhaps one of them repeatedly."""
    drawn = random.choices(READ_NAMES, k=random.randint(1, 3))
    drawn += random.choices(NAMES, k=random.randint(0, 4))
    names = [name for name in drawn if name not in exclude]
    if names and random.random() < 0.2:
        names += [names[0]] * random.choice((1, 2, 50))
    headers = [(name, header_value(random, TYPICAL_VALUES[name])) for name in names]
    lengths = accumulate(len(value) for _, value in headers)
    return [header for header, length in zip(headers, lengths, strict=True) if length <= MAX_BYTES]


def combine(headers: Headers, name: str) -> str | None:
    """Return the value of a header as the application receives it, or None without the header.

    granian joins the values of a repeated header, and replaces a value that is not ASCII by "".
    """
    encoded = [v if isinstance(v, bytes) else v.encode() for n, v in headers if n == name]
    values = [v.strip(b" \t").decode() if v.isascii() else "" for v in encoded]
    return ",".join(values) if values else None
