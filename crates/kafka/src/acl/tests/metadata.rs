//! A client sees the topics that it may see, and creates those that it may create.

use super::*;

pub(super) fn metadata(topics: Option<&[&str]>, create: bool) -> MetadataRequest {
    let named = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic(name)));
    MetadataRequest::default()
        .with_topics(topics.map(|topics| topics.iter().map(named).collect()))
        .with_allow_auto_topic_creation(create)
}

pub(super) fn described(version: i16, host: &str, topics: &[(&str, i16)]) -> MetadataResponse {
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(1))
        .with_host(text(host))
        .with_port(9092)
        .with_rack(Some(text("rack")));
    let partition = MetadataResponsePartition::default()
        .with_replica_nodes(vec![BrokerId(1), BrokerId(2)])
        .with_isr_nodes(vec![BrokerId(1)]);
    let partition = match version {
        ..5 => partition,
        _ => partition.with_offline_replicas(vec![BrokerId(2)]),
    };
    let data = |(name, error): &(&str, i16)| {
        let partitions = if *error == 29 { 0 } else { 2 };
        MetadataResponseTopic::default()
            .with_error_code(*error)
            .with_name(Some(topic(name)))
            .with_partitions(vec![partition.clone(); partitions])
    };
    MetadataResponse::default()
        .with_brokers(vec![broker; 2])
        .with_cluster_id(Some(text("cluster")))
        .with_topics(topics.iter().map(data).collect())
}

#[test]
fn metadata_shows_what_may_be_described_and_creates_what_may_be_created() {
    for version in 4..=9 {
        let key = ApiKey::Metadata;
        let described = |host, topics: &[(&str, i16)]| described(version, host, topics);
        // Of all topics those without a right are left out, without an error.
        let ok = described(
            "real",
            &[("secret", 0), ("quakes", 0), ("hidden", 0), ("seen", 0)],
        );
        let shown = described("local", &[("quakes", 0), ("seen", 0)]);
        let (sent, left) = (metadata(None, true), metadata(None, false));
        check(key, version, (&sent, Some(&left)), (&ok, &shown), &[]);
        // By name.
        let sent = metadata(Some(&["secret", "quakes", "weather-new"]), true);
        let left = metadata(Some(&["quakes", "weather-new"]), false);
        let ok = described("real", &[("quakes", 0), ("weather-new", 3)]);
        let shown = described(
            "local",
            &[("secret", 29), ("quakes", 0), ("weather-new", 3)],
        );
        check(
            key,
            version,
            (&sent, Some(&left)),
            (&ok, &shown),
            &["describe topic \"secret\""],
        );
        // None of the topics that were asked for; the answer has the brokers nevertheless.
        let (sent, left) = (
            metadata(Some(&["secret"]), false),
            metadata(Some(&[]), false),
        );
        let (ok, shown) = (
            described("real", &[]),
            described("local", &[("secret", 29)]),
        );
        check(
            key,
            version,
            (&sent, Some(&left)),
            (&ok, &shown),
            &["describe topic \"secret\""],
        );
        // The right to create.
        let sent = metadata(Some(&["weather-new"]), true);
        let (ok, shown) = (
            described("real", &[("weather-new", 0)]),
            described("local", &[("weather-new", 0)]),
        );
        check(key, version, (&sent, Some(&sent)), (&ok, &shown), &[]);
    }
}

#[test]
fn metadata_of_clients_that_cannot_but_create_creates_nothing() {
    for version in 0..=3 {
        for (topics, left, create) in [
            (None, None, false),
            (Some(&["quakes"][..]), Some(&["quakes"][..]), false),
            (Some(&["weather-new"]), Some(&["weather-new"]), true),
            (Some(&["secret", "quakes"]), Some(&["quakes"]), false),
        ] {
            for size in [1, usize::MAX] {
                let mut exchange = Exchange::new(size);
                let asked = match topics {
                    // That is how version 0 says it.
                    None if version == 0 => Some(&[][..]),
                    topics => topics,
                };
                let sent = request(ApiKey::Metadata, version, &metadata(asked, true));
                let seen = exchange.send(&sent).expect("judged");
                assert_eq!(seen, request(ApiKey::Metadata, 4, &metadata(left, create)));
                let ok = described(4, "real", &[("quakes", 0), ("hidden", 0)]);
                let client = exchange.reply(&answer(4, &ok)).expect("answered");
                let mut shown = vec![("quakes", 0)];
                if topics.is_some_and(|topics| topics[0] == "secret") {
                    shown.insert(0, ("secret", 29));
                }
                let mut shown = described(version, "local", &shown);
                if version < 2 {
                    shown = shown.with_cluster_id(None);
                }
                if version < 1 {
                    shown = shown.with_controller_id(BrokerId(-1));
                    shown
                        .brokers
                        .iter_mut()
                        .for_each(|broker| broker.rack = None);
                }
                assert_eq!(decode_answer::<MetadataResponse>(client, version), shown);
            }
        }
    }
}

#[test]
fn topics_are_created_by_right() {
    for version in versions(ApiKey::CreateTopics) {
        use create_topics_request::{CreatableReplicaAssignment, CreatableTopicConfig};
        let request = |topics: &[&str]| {
            let assignment =
                CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1); 3]);
            let config = CreatableTopicConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("1")));
            let data = |name: &&str| {
                CreatableTopic::default()
                    .with_name(topic(name))
                    .with_assignments(vec![assignment.clone(); 2])
                    .with_configs(vec![config.clone(); 2])
            };
            CreateTopicsRequest::default().with_topics(topics.iter().map(data).collect())
        };
        let response = |topics: &[(&str, i16)]| {
            let data = |(name, error): &(&str, i16)| {
                CreatableTopicResult::default()
                    .with_name(topic(name))
                    .with_error_code(*error)
                    .with_error_message(None)
                    .with_configs(Some(Vec::new()))
            };
            CreateTopicsResponse::default().with_topics(topics.iter().map(data).collect())
        };
        let (sent, left) = (
            request(&["weather-new", "weather-1"]),
            request(&["weather-new"]),
        );
        let ok = response(&[("weather-new", 0)]);
        let shown = response(&[("weather-1", 29), ("weather-new", 0)]);
        let told = ["create topic \"weather-1\""];
        check(
            ApiKey::CreateTopics,
            version,
            (&sent, Some(&left)),
            (&ok, &shown),
            &told,
        );
        let (sent, shown) = (request(&["weather-1"]), response(&[("weather-1", 29)]));
        check(
            ApiKey::CreateTopics,
            version,
            (&sent, None),
            (&ok, &shown),
            &told,
        );
    }
}
