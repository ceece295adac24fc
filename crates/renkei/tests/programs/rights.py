"""What a client sees of a broker's access control, and of the mesh's topic rights.

Arguments: the broker for the operator, the broker for the account, the mesh's local listener. The
account and the mesh's caller may do the same. Prints what each saw as JSON.
"""

import json
import socket
import struct
import sys
import time

import confluent_kafka as ck
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from kafka.record.default_records import DefaultRecordBatchBuilder

operator, account, mesh = sys.argv[1:]
DEADLINE = 40
PASSWORD = {
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "limited",
    "sasl.password": "limited",
}


def prepare():
    """Topics with a record each, and the account's rights."""
    admin = AdminClient({"bootstrap.servers": operator})
    topics = ["weather", "quakes", "secret"]
    for future in admin.create_topics([NewTopic(topic, 1, 1) for topic in topics]).values():
        future.result(30)
    producer = ck.Producer({"bootstrap.servers": operator})
    for topic in topics:
        producer.produce(topic, b"first")
    assert producer.flush(30) == 0

    def allow(kind, name, operation, pattern=ResourcePatternType.LITERAL):
        return AclBinding(
            kind, name, pattern, "User:limited", "*", operation, AclPermissionType.ALLOW
        )

    topic, group = ResourceType.TOPIC, ResourceType.GROUP
    rights = [
        allow(topic, "weather", AclOperation.WRITE),
        allow(topic, "weather", AclOperation.READ),
        allow(topic, "quakes", AclOperation.DESCRIBE),
        allow(topic, "fresh", AclOperation.CREATE, ResourcePatternType.PREFIXED),
        allow(group, "readers", AclOperation.READ),
    ]
    for future in admin.create_acls(rights).values():
        future.result(30)


def named(step, *arguments):
    """The name of the error of a step, or `ok`."""
    try:
        step(*arguments)
        return "ok"
    except ck.KafkaException as error:
        return error.args[0].name()


def delivered(settings, topic):
    told = []
    producer = ck.Producer(settings)
    producer.produce(topic, b"more", on_delivery=lambda error, _: told.append(error))
    producer.flush(DEADLINE)
    return [error.name() if error else "ok" for error in told]


def read(settings, group, topic):
    """By a group that subscribes: the first record's value, or the error."""
    consumer = reader(settings, group)
    consumer.subscribe([topic])
    return first(consumer)


def fetched(settings, topic):
    """By a client that knows the partition, without a group's offsets."""
    consumer = reader(settings, "readers")
    consumer.assign([ck.TopicPartition(topic, 0, 0)])
    return first(consumer)


def reader(settings, group):
    return ck.Consumer(
        {
            **settings,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )


def first(consumer):
    end = time.monotonic() + DEADLINE
    message = None
    while message is None and time.monotonic() < end:
        message = consumer.poll(1)
    consumer.close()
    if message is None:
        return "nothing"
    return message.error().name() if message.error() else message.value().decode()


def transaction(settings, topic):
    producer = ck.Producer({**settings, "transactional.id": "mine"})

    def run():
        producer.init_transactions(DEADLINE)
        producer.begin_transaction()
        producer.produce(topic, b"in a transaction")
        producer.commit_transaction(DEADLINE)

    return named(run)


def seen(settings, fresh):
    producer = ck.Producer(settings)
    admin = AdminClient(settings)
    listed = producer.list_topics(timeout=DEADLINE).topics

    def metadata(topic):
        error = producer.list_topics(topic, timeout=DEADLINE).topics[topic].error
        return error.name() if error else "ok"

    def made(topic):
        (future,) = admin.create_topics([NewTopic(topic, 1, 1)]).values()
        return named(future.result, DEADLINE)

    def described(group):
        (future,) = admin.describe_consumer_groups([group]).values()
        return named(future.result, DEADLINE)

    topics = ["weather", "quakes", "secret", "absent"]
    return {
        "listed": sorted(name for name in listed if not name.startswith("__")),
        "metadata": {topic: metadata(topic) for topic in topics},
        "produced": {topic: delivered(settings, topic) for topic in topics[:3]},
        "numbered": {
            topic: delivered({**settings, "enable.idempotence": True}, topic)
            for topic in topics[:3]
        },
        "read": {topic: read(settings, "readers", topic) for topic in topics[:3]},
        # Of a topic that it cannot see, librdkafka fetches nothing.
        "fetched": {topic: fetched(settings, topic) for topic in topics[:2]},
        "other group": read(settings, "others", "weather"),
        "groups": {group: described(group) for group in ("readers", "others")},
        "transaction": transaction(settings, "weather"),
        "made": [made(fresh), made("stale")],
    }


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


def framed(key, version, body):
    request = struct.pack(">hhi", key, version, 7) + string("by hand") + body
    return struct.pack(">i", len(request)) + request


def answer(stream):
    size = struct.unpack(">i", stream.recv(4, socket.MSG_WAITALL))[0]
    return stream.recv(size, socket.MSG_WAITALL)


def unasked(address, topic, login):
    """A Produce request of version 3 with acks=0, and a question behind it: whether it is
    answered, or the connection is closed."""
    host, port = address.rsplit(":", 1)
    stream = socket.create_connection((host, int(port)), DEADLINE)
    if login:
        stream.sendall(framed(17, 1, string("PLAIN")))
        answer(stream)
        token = b"\0limited\0limited"
        stream.sendall(framed(36, 0, struct.pack(">i", len(token)) + token))
        answer(stream)
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 4096)
    builder.append(0, 1_700_000_000_000, None, b"without an answer", [])
    records = bytes(builder.build())
    body = struct.pack(">hhii", -1, 0, 1000, 1) + string(topic)
    body += struct.pack(">iii", 1, 0, len(records)) + records
    stream.sendall(framed(0, 3, body))
    try:
        stream.sendall(framed(18, 0, b""))
        return "open" if stream.recv(1) else "closed"
    except OSError:
        return "closed"


def acks0(address, login):
    return {topic: unasked(address, topic, login) for topic in ("weather", "quakes", "secret")}


prepare()
broker = seen({"bootstrap.servers": account, **PASSWORD}, "fresh-1")
through = seen({"bootstrap.servers": mesh}, "fresh-2")
broker["without acks"] = acks0(account, True)
through["without acks"] = acks0(mesh, False)
print(json.dumps({"broker": broker, "mesh": through}))
