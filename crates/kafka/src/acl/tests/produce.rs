//! Records are written to the topics that the caller may write to, and to no others.

use super::*;

pub(super) fn produce(topics: &[&str]) -> ProduceRequest {
    let partition = |index| {
        let records = Bytes::from(vec![index as u8; 5000]);
        PartitionProduceData::default()
            .with_index(index)
            .with_records(Some(records))
    };
    let data = |name: &&str| {
        let partitions = vec![partition(3), partition(4)];
        TopicProduceData::default()
            .with_name(topic(name))
            .with_partition_data(partitions)
    };
    ProduceRequest::default()
        .with_acks(-1)
        .with_topic_data(topics.iter().map(data).collect())
}

fn produced(topics: &[(&str, i16)]) -> ProduceResponse {
    let data = |(name, error): &(&str, i16)| {
        let partition = |index| {
            let base = if *error == 0 { 55 } else { -1 };
            PartitionProduceResponse::default()
                .with_index(index)
                .with_error_code(*error)
                .with_base_offset(base)
                .with_log_append_time_ms(-1)
        };
        TopicProduceResponse::default()
            .with_name(topic(name))
            .with_partition_responses(vec![partition(3), partition(4)])
    };
    ProduceResponse::default().with_responses(topics.iter().map(data).collect())
}

#[test]
fn produce_is_cut_down_to_what_is_allowed() {
    for version in versions(ApiKey::Produce) {
        let key = ApiKey::Produce;
        let ok = produced(&[("weather-1", 0), ("weather-2", 0)]);
        let sent = produce(&["weather-1", "weather-2"]);
        check(key, version, (&sent, Some(&sent)), (&ok, &ok), &[]);
        let sent = produce(&["secret", "weather-1", "quakes", "weather-2"]);
        let left = produce(&["weather-1", "weather-2"]);
        let shown = produced(&[
            ("secret", 29),
            ("quakes", 29),
            ("weather-1", 0),
            ("weather-2", 0),
        ]);
        let told = ["produce to topic \"secret\"", "produce to topic \"quakes\""];
        check(key, version, (&sent, Some(&left)), (&ok, &shown), &told);
        let sent = produce(&["secret"]);
        let shown = produced(&[("secret", 29)]);
        check(key, version, (&sent, None), (&ok, &shown), &told[..1]);
        let id = TransactionalId(text("mine"));
        let sent = produce(&["weather-1"]).with_transactional_id(Some(id));
        let shown = produced(&[("weather-1", 53)]);
        check(
            key,
            version,
            (&sent, None),
            (&ok, &shown),
            &["use transactional id \"mine\""],
        );
    }
}

#[test]
fn an_allowed_produce_request_for_one_topic_leaves_before_it_is_complete() {
    let mut session = KafkaSession::with_rights(Arc::new(rights()));
    let frame = request(ApiKey::Produce, 9, &produce(&["weather-1"]));
    let (mut input, mut out) = (BytesMut::from(&frame[..200]), Vec::new());
    session
        .client_to_broker(&mut input, &mut out)
        .expect("first part");
    assert_eq!(out.concat(), frame[..200]);
    let frame = request(ApiKey::Produce, 9, &produce(&["weather-1", "secret"]));
    let mut session = KafkaSession::with_rights(Arc::new(rights()));
    let (mut input, mut out) = (BytesMut::from(&frame[..200]), Vec::new());
    session
        .client_to_broker(&mut input, &mut out)
        .expect("first part");
    assert!(out.is_empty());
}

#[test]
fn record_batches_of_trimmed_requests_are_slices() {
    let frame = request(ApiKey::Produce, 9, &produce(&["secret", "weather-1"]));
    let mut session = KafkaSession::with_rights(Arc::new(rights()));
    let (mut input, mut out) = (BytesMut::from(&frame[..]), Vec::new());
    let held = input.as_ptr() as usize..input.as_ptr() as usize + input.len();
    session
        .client_to_broker(&mut input, &mut out)
        .expect("judged");
    let batches: Vec<_> = out.iter().filter(|slice| slice.len() > 5000).collect();
    assert_eq!(batches.len(), 1);
    assert!(held.contains(&(batches[0].as_ptr() as usize)));
}

#[test]
fn produce_without_acks_is_denied_by_closing_after_what_is_allowed() {
    for version in versions(ApiKey::Produce) {
        for (topics, left) in [
            (
                &["secret", "weather-1"][..],
                Some(produce(&["weather-1"]).with_acks(0)),
            ),
            (&["secret"], None),
        ] {
            let mut exchange = Exchange::new(usize::MAX);
            let sent = produce(topics).with_acks(0);
            let seen = exchange.send(&request(ApiKey::Produce, version, &sent));
            let expected = left.map_or(Bytes::new(), |left| {
                request(ApiKey::Produce, version, &left)
            });
            assert_eq!(seen, Ok(expected));
            assert_eq!(exchange.session.take_denials().len(), 1);
            assert_eq!(
                exchange.session.end(),
                Some(&SessionError::DeniedWithoutAcks)
            );
            let allowed = request(ApiKey::Produce, version, &produce(&["weather-1"]));
            assert_eq!(
                exchange.send(&allowed),
                Ok(Bytes::new()),
                "nothing after it"
            );
        }
        let mut exchange = Exchange::new(usize::MAX);
        let sent = request(
            ApiKey::Produce,
            version,
            &produce(&["weather-1"]).with_acks(0),
        );
        assert_eq!(exchange.send(&sent), Ok(sent.clone()));
        assert!(exchange.session.is_idle());
        assert_eq!(exchange.send(&sent), Ok(sent));
    }
}

#[test]
fn what_came_before_a_denied_request_without_an_answer_is_answered_first() {
    let mut session = KafkaSession::with_rights(Arc::new(rights()));
    let allowed = request(ApiKey::Produce, 9, &produce(&["weather-1"]));
    let denied = request(ApiKey::Produce, 9, &produce(&["secret"]).with_acks(0));
    let (mut input, mut out) = (BytesMut::new(), Vec::new());
    // In one piece, with more behind it, and once more in another.
    for bytes in [&allowed, &denied, &allowed] {
        input.extend_from_slice(bytes);
    }
    session
        .client_to_broker(&mut input, &mut out)
        .expect("judged");
    assert_eq!(out.concat(), allowed);
    assert_eq!(session.end(), None, "an answer is awaited");
    input.extend_from_slice(&allowed);
    out.clear();
    session
        .client_to_broker(&mut input, &mut out)
        .expect("dropped");
    assert!(out.is_empty() && input.is_empty());
    // The answer comes in two pieces: its length and the id that the requests here have, the rest.
    let id = &allowed[8..12];
    let mut answer = BytesMut::from(&[&[0, 0, 0, 8], id].concat()[..]);
    let mut local = |_: i32, _: &str, _: u16| None;
    session
        .broker_to_client(&mut answer, &mut local, &mut out)
        .expect("the beginning");
    assert_eq!(session.end(), None, "half an answer");
    answer.extend_from_slice(&[1, 2, 3, 4]);
    session
        .broker_to_client(&mut answer, &mut local, &mut out)
        .expect("the rest");
    assert_eq!(out.concat()[8..], [1, 2, 3, 4]);
    assert_eq!(session.end(), Some(&SessionError::DeniedWithoutAcks));
}

#[test]
fn transactions_have_no_producer_id() {
    for version in versions(ApiKey::InitProducerId) {
        let ok = InitProducerIdResponse::default();
        let sent = InitProducerIdRequest::default().with_transactional_id(None);
        check(
            ApiKey::InitProducerId,
            version,
            (&sent, Some(&sent)),
            (&ok, &ok),
            &[],
        );
        let id = TransactionalId(text("mine"));
        let sent = sent.with_transactional_id(Some(id));
        let shown = ok
            .clone()
            .with_error_code(53)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let told = ["use transactional id \"mine\""];
        check(
            ApiKey::InitProducerId,
            version,
            (&sent, None),
            (&ok, &shown),
            &told,
        );
    }
}

#[test]
fn who_may_produce_nothing_gets_no_producer_id() {
    let mut session = KafkaSession::with_rights(Arc::default());
    let sent = InitProducerIdRequest::default().with_transactional_id(None);
    let mut input = BytesMut::from(&request(ApiKey::InitProducerId, 4, &sent)[..]);
    session
        .client_to_broker(&mut input, &mut Vec::new())
        .expect("judged");
    assert_eq!(
        session.take_denials()[0].to_string(),
        "produce to any topic"
    );
}
