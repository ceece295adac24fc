//! What the gateway says that it carries, what brokers alone may ask, and requests in any pieces.

use super::{
    fetch::{fetch, fetched},
    groups::commit,
    metadata::{described, metadata},
    produce::produce,
    *,
};

#[test]
fn only_what_is_judged_is_offered() {
    let offered = |range: (i16, i16, i16)| {
        let key = api_versions_response::ApiVersion::default();
        key.with_api_key(range.0)
            .with_min_version(range.1)
            .with_max_version(range.2)
    };
    let everything = (0..100).map(|key| offered((key, 0, 20))).collect();
    let mut exchange = Exchange::new(usize::MAX);
    let ask = request(ApiKey::ApiVersions, 3, &ApiVersionsRequest::default());
    exchange.send(&ask).expect("asked");
    let all = [
        "metadata.version",
        "group.version",
        "transaction.version",
        "share.version",
    ];
    let supported = |name: &&str| SupportedFeatureKey::default().with_name(text(name));
    let finalized = |name: &&str| FinalizedFeatureKey::default().with_name(text(name));
    let everything = ApiVersionsResponse::default()
        .with_api_keys(everything)
        .with_supported_features(all.iter().map(supported).collect())
        .with_finalized_features_epoch(7)
        .with_finalized_features(all.iter().map(finalized).collect());
    let shown = exchange.reply(&answer(3, &everything)).expect("answered");
    let shown: ApiVersionsResponse = decode_answer(shown, 3);
    assert_eq!(shown.finalized_features_epoch, 7);
    // It is refused, with an error that every client shows.
    let heartbeat = (ApiKey::ConsumerGroupHeartbeat as i16, 0, 1);
    let known = table::all().map(|one| (one.api.key, one.min_version, one.max_version));
    let known: Vec<_> = known.chain([heartbeat]).map(offered).collect();
    assert_eq!(shown.api_keys, known);
    assert_eq!(features(&shown), ["metadata.version"]);
}

/// The features that a client learns of.
fn features(answer: &ApiVersionsResponse) -> Vec<&str> {
    let supported = answer.supported_features.iter().map(|one| &*one.name);
    let finalized = answer.finalized_features.iter().map(|one| &*one.name);
    assert!(supported.eq(finalized.clone()));
    finalized.collect()
}

/// An older version is left out only where another reader could take it for something else.
#[test]
fn every_version_offered_is_in_order_and_begins_with_the_oldest() {
    assert!(table::all().is_sorted_by_key(|governed| governed.api.key));
    for governed in table::all() {
        let least = i16::from(governed.api.key == ApiKey::SaslHandshake as i16);
        assert_eq!(governed.min_version, least, "{}", governed.name());
        let carried = governed.api.carried.expect("carried");
        assert!(governed.max_version <= carried, "{}", governed.name());
    }
}

#[test]
fn only_brokers_read_as_brokers_do() {
    let told = ["read as a broker does"];
    for (replica, denied) in [(-1, false), (-2, false), (-3, true), (0, true), (7, true)] {
        for version in versions(ApiKey::Fetch) {
            let sent = fetch(version, &["quakes"], (0, -1)).with_replica_id(BrokerId(replica));
            let (ok, shown) = (fetched(&[("quakes", 0)]), fetched(&[("quakes", 29)]));
            match denied {
                true => check(ApiKey::Fetch, version, (&sent, None), (&ok, &shown), &told),
                false => check(
                    ApiKey::Fetch,
                    version,
                    (&sent, Some(&sent)),
                    (&ok, &ok),
                    &[],
                ),
            }
        }
        let sent = ListOffsetsRequest::default().with_replica_id(BrokerId(replica));
        let ok = ListOffsetsResponse::default();
        let expected = (!denied).then_some(&sent);
        let told = if denied { &told[..] } else { &[] };
        check(ApiKey::ListOffsets, 5, (&sent, expected), (&ok, &ok), told);
        let sent = OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(replica));
        let (ok, key) = (
            OffsetForLeaderEpochResponse::default(),
            ApiKey::OffsetForLeaderEpoch,
        );
        let expected = (!denied).then_some(&sent);
        check(key, 3, (&sent, expected), (&ok, &ok), told);
    }
}

#[test]
fn own_answers_that_nobody_reads_are_bounded() {
    let names: Vec<_> = (0..2000).map(|n| format!("secret-{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let frame = request(ApiKey::Fetch, 12, &fetch(12, &names, (0, 0)));
    let mut exchange = Exchange::new(usize::MAX);
    let ended = (0..10_000).find_map(|_| exchange.send(&frame).err());
    assert_eq!(ended, Some(SessionError::InFlight));
}

/// A request of every kind that is judged, some of it denied.
fn requests() -> Vec<Bytes> {
    let mut all = Vec::new();
    for version in versions(ApiKey::Produce) {
        all.push(request(
            ApiKey::Produce,
            version,
            &produce(&["weather-1", "secret"]),
        ));
    }
    for version in versions(ApiKey::Fetch) {
        let sent = fetch(version, &["quakes", "secret"], (0, 0));
        all.push(request(ApiKey::Fetch, version, &sent));
    }
    for version in 4..=9 {
        all.push(request(
            ApiKey::Metadata,
            version,
            &metadata(Some(&["quakes", "secret"]), true),
        ));
    }
    for version in versions(ApiKey::OffsetCommit) {
        all.push(request(
            ApiKey::OffsetCommit,
            version,
            &commit("readers", &["quakes", "secret"]),
        ));
    }
    all
}

proptest! {
    #[test]
    fn arbitrary_bodies_never_panic(of: prop::sample::Index, version in 0..14_i16, body: Vec<u8>) {
        let all: Vec<_> = table::all().collect();
        let mut frame = BytesMut::new();
        frame.put_i16(all[of.index(all.len())].api.key);
        frame.put_i16(version);
        frame.put_i32(CORRELATION);
        frame.put_i16(-1);
        frame.extend_from_slice(&body);
        let _ = Exchange::new(usize::MAX).send(&framed(&frame));
    }

    #[test]
    fn damaged_requests_never_panic_nor_leave_a_frame_of_wrong_length(
        of: prop::sample::Index, at: prop::sample::Index, byte: u8,
    ) {
        let all = requests();
        let mut frame = all[of.index(all.len())].to_vec();
        let length = frame.len();
        frame[4 + at.index(length - 4)] = byte;
        if let Ok(seen) = Exchange::new(usize::MAX).send(&frame) && !seen.is_empty() {
            prop_assert_eq!(i32::from_be_bytes(seen[..4].try_into().unwrap()) as usize, seen.len() - 4);
        }
    }

    #[test]
    fn nothing_passes_that_another_reader_takes_for_what_is_denied(
        version in 3..=9_i16, at: prop::sample::Index, byte: u8, commits: bool,
    ) {
        let sent = match commits {
            true => request(ApiKey::OffsetCommit, version, &commit("readers", &["quakes", "secret"])),
            false => request(ApiKey::Produce, version, &produce(&["weather-1", "secret"])),
        };
        let mut frame = sent.to_vec();
        let at = 8 + at.index(120.min(frame.len() - 8));
        frame[at] = byte;
        let Ok(mut seen) = Exchange::new(usize::MAX).send(&frame) else { return Ok(()) };
        if seen.is_empty() || seen[4..6] != frame[4..6] {
            return Ok(());
        }
        seen.advance(4);
        let header = if commits { version >= 8 } else { version >= 9 };
        let header = RequestHeader::decode(&mut seen, if header { 2 } else { 1 });
        // A client id that is no text, for one.
        if header.is_err() {
            return Ok(());
        }
        let names: Vec<_> = match commits {
            true => OffsetCommitRequest::decode(&mut seen, version)
                .map(|request| request.topics.into_iter().map(|topic| topic.name).collect()),
            false => ProduceRequest::decode(&mut seen, version)
                .map(|request| request.topic_data.into_iter().map(|topic| topic.name).collect()),
        }
        .unwrap_or_default();
        prop_assert!(names.iter().all(|name| &***name != "secret"), "{names:?}");
    }

    #[test]
    fn damaged_answers_never_panic(
        version in 4..=9_i16, at: prop::sample::Index, byte: u8, named: bool,
    ) {
        let mut exchange = Exchange::new(64);
        let names: Option<&[&str]> = named.then_some(&["quakes", "secret"]);
        let asked = request(ApiKey::Metadata, version, &metadata(names, true));
        exchange.send(&asked).unwrap();
        let mut frame = answer(version, &described(version, "real", &[("quakes", 0)])).to_vec();
        let at = at.index(frame.len());
        frame[at] = byte;
        let mut local = |_: i32, _: &str, port: u16| Some(Endpoint { host: String::new(), port });
        let mut input = BytesMut::from(&frame[..]);
        let _ = exchange.session.broker_to_client(&mut input, &mut local, &mut Vec::new());
    }
}
