"""gRPC health and reflection by hand, for clients without generated stubs.

Debian 12 packages neither grpcio-health-checking nor grpcio-reflection; the few
bytes on the wire are written and read here.
"""


def _field(number, payload):
    assert len(payload) < 128
    return bytes([number << 3 | 2, len(payload)]) + payload


def _fields(data):
    """(number, value) of a message; varints and length-delimited fields only."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            length = varint()
            yield key >> 3, data[at:at + length]
            at += length


def check_health(channel, service=""):
    """grpc.health.v1: "SERVING", "NOT_SERVING"..."""
    call = channel.unary_unary("/grpc.health.v1.Health/Check")
    request = _field(1, service.encode()) if service else b""
    status = dict(_fields(call(request, timeout=10))).get(1, 0)
    return ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"][status]


def list_services(channel):
    """Full names from grpc.reflection.v1alpha, as grpcurl asks."""
    call = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    for answer in call(iter([_field(7, b"*")]), timeout=10):
        listing = dict(_fields(answer))[6]
        return [dict(_fields(service))[1].decode()
                for number, service in _fields(listing) if number == 1]
    return []
