"""Creates a topic at a broker, as its operator would: topic.py HOST:PORT TOPIC.

Waits for the broker to come up, at most 60 s.
"""

import sys
import time

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError


def main():
    broker, topic = sys.argv[1], sys.argv[2]
    deadline = time.monotonic() + 60
    while True:
        try:
            admin = KafkaAdminClient(bootstrap_servers=broker)
            try:
                admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
            except TopicAlreadyExistsError:
                pass
            finally:
                admin.close()
            return
        except (KafkaError, OSError) as error:
            if time.monotonic() > deadline:
                sys.exit(f"no topic {topic} at {broker}: {error!r}")
            time.sleep(0.2)


if __name__ == "__main__":
    main()
