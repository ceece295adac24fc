//! Records and offsets are read of the topics that the caller may read.

use super::*;

pub(super) fn fetch(version: i16, topics: &[&str], session: (i32, i32)) -> FetchRequest {
    let partition = |index| {
        FetchPartition::default()
            .with_partition(index)
            .with_fetch_offset(9)
            .with_partition_max_bytes(100)
    };
    let data = |name: &&str| {
        let partitions = vec![partition(3), partition(4)];
        FetchTopic::default()
            .with_topic(topic(name))
            .with_partitions(partitions)
    };
    let request = FetchRequest::default()
        .with_max_wait_ms(500)
        .with_topics(topics.iter().map(data).collect());
    match version {
        ..7 => request,
        _ => request
            .with_session_id(session.0)
            .with_session_epoch(session.1),
    }
}

pub(super) fn fetched(topics: &[(&str, i16)]) -> FetchResponse {
    let data = |(name, error): &(&str, i16)| {
        let (offset, records) = match error {
            0 => (1000, Bytes::from(vec![9; 3000])),
            _ => (-1, Bytes::new()),
        };
        let partition = |index| {
            PartitionData::default()
                .with_partition_index(index)
                .with_error_code(*error)
                .with_high_watermark(offset)
                .with_aborted_transactions(Some(Vec::new()))
                .with_records(Some(records.clone()))
        };
        FetchableTopicResponse::default()
            .with_topic(topic(name))
            .with_partitions(vec![partition(3), partition(4)])
    };
    FetchResponse::default().with_responses(topics.iter().map(data).collect())
}

#[test]
fn fetch_is_cut_down_to_what_is_allowed_and_has_no_session() {
    for version in versions(ApiKey::Fetch) {
        let key = ApiKey::Fetch;
        for session in [(0, 0), (0, -1), (4711, -1)] {
            let fetch = |topics| fetch(version, topics, session);
            let none = |topics| self::fetch(version, topics, (0, -1));
            let ok = fetched(&[("quakes", 0), ("weather-1", 0)]);
            let left = none(&["quakes", "weather-1"]);
            check(
                key,
                version,
                (&fetch(&["quakes", "weather-1"]), Some(&left)),
                (&ok, &ok),
                &[],
            );
            let sent = fetch(&["quakes", "secret", "weather-1", "seen"]);
            let shown = fetched(&[
                ("secret", 29),
                ("seen", 29),
                ("quakes", 0),
                ("weather-1", 0),
            ]);
            let told = ["consume topic \"secret\"", "consume topic \"seen\""];
            check(key, version, (&sent, Some(&left)), (&ok, &shown), &told);
            let shown = fetched(&[("secret", 29)]);
            check(
                key,
                version,
                (&fetch(&["secret"]), None),
                (&ok, &shown),
                &told[..1],
            );
        }
        if version >= 7 {
            let guessed = fetch(version, &[], (4711, 3));
            let shown = FetchResponse::default().with_error_code(70);
            check(key, version, (&guessed, None), (&shown, &shown), &[]);
        }
    }
}

#[test]
fn list_offsets_needs_description() {
    for version in versions(ApiKey::ListOffsets) {
        let request = |topics: &[&str]| {
            let partition = ListOffsetsPartition::default()
                .with_partition_index(3)
                .with_timestamp(-1);
            let data = |name: &&str| {
                ListOffsetsTopic::default()
                    .with_name(topic(name))
                    .with_partitions(vec![partition.clone(); 2])
            };
            ListOffsetsRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_topics(topics.iter().map(data).collect())
        };
        let response = |topics: &[(&str, i16)]| {
            let data = |(name, error): &(&str, i16)| {
                let offset = if *error == 0 { 12 } else { -1 };
                let partition = ListOffsetsPartitionResponse::default()
                    .with_partition_index(3)
                    .with_error_code(*error)
                    .with_offset(offset);
                ListOffsetsTopicResponse::default()
                    .with_name(topic(name))
                    .with_partitions(vec![partition; 2])
            };
            ListOffsetsResponse::default().with_topics(topics.iter().map(data).collect())
        };
        let sent = request(&["secret", "seen", "quakes"]);
        let left = request(&["seen", "quakes"]);
        let ok = response(&[("seen", 0), ("quakes", 0)]);
        let shown = response(&[("secret", 29), ("seen", 0), ("quakes", 0)]);
        let told = ["describe topic \"secret\""];
        check(
            ApiKey::ListOffsets,
            version,
            (&sent, Some(&left)),
            (&ok, &shown),
            &told,
        );
        let shown = response(&[("secret", 29)]);
        let sent = request(&["secret"]);
        check(
            ApiKey::ListOffsets,
            version,
            (&sent, None),
            (&ok, &shown),
            &told,
        );
    }
}

#[test]
fn offsets_of_epochs_need_description() {
    for version in versions(ApiKey::OffsetForLeaderEpoch) {
        let request = |topics: &[&str]| {
            let partition = OffsetForLeaderPartition::default()
                .with_partition(3)
                .with_leader_epoch(5);
            let data = |name: &&str| {
                OffsetForLeaderTopic::default()
                    .with_topic(topic(name))
                    .with_partitions(vec![partition.clone(); 2])
            };
            OffsetForLeaderEpochRequest::default().with_topics(topics.iter().map(data).collect())
        };
        let response = |topics: &[(&str, i16)]| {
            let data = |(name, error): &(&str, i16)| {
                let partition = EpochEndOffset::default()
                    .with_partition(3)
                    .with_error_code(*error);
                OffsetForLeaderTopicResult::default()
                    .with_topic(topic(name))
                    .with_partitions(vec![partition; 2])
            };
            OffsetForLeaderEpochResponse::default().with_topics(topics.iter().map(data).collect())
        };
        let key = ApiKey::OffsetForLeaderEpoch;
        let (sent, left) = (request(&["seen", "secret"]), request(&["seen"]));
        let (ok, shown) = (
            response(&[("seen", 0)]),
            response(&[("secret", 29), ("seen", 0)]),
        );
        let told = ["describe topic \"secret\""];
        check(key, version, (&sent, Some(&left)), (&ok, &shown), &told);
        let shown = response(&[("secret", 29)]);
        check(
            key,
            version,
            (&request(&["secret"]), None),
            (&ok, &shown),
            &told,
        );
    }
}
