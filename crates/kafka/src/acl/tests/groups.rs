//! Groups are used, and offsets committed and fetched, by right.

use super::*;

pub(super) fn commit(name: &str, topics: &[&str]) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(3)
        .with_committed_metadata(Some(text("note")));
    let data = |name: &&str| {
        OffsetCommitRequestTopic::default()
            .with_name(topic(name))
            .with_partitions(vec![partition.clone(); 2])
    };
    OffsetCommitRequest::default()
        .with_group_id(group(name))
        .with_member_id(text("member"))
        .with_topics(topics.iter().map(data).collect())
}

fn committed(topics: &[(&str, i16)]) -> OffsetCommitResponse {
    let data = |(name, error): &(&str, i16)| {
        let partition = OffsetCommitResponsePartition::default()
            .with_partition_index(3)
            .with_error_code(*error);
        OffsetCommitResponseTopic::default()
            .with_name(topic(name))
            .with_partitions(vec![partition; 2])
    };
    OffsetCommitResponse::default().with_topics(topics.iter().map(data).collect())
}

#[test]
fn offsets_are_committed_by_a_group_for_what_it_may_read() {
    for version in versions(ApiKey::OffsetCommit) {
        let key = ApiKey::OffsetCommit;
        let sent = commit("readers", &["quakes", "seen"]);
        let left = commit("readers", &["quakes"]);
        let (ok, shown) = (
            committed(&[("quakes", 0)]),
            committed(&[("seen", 29), ("quakes", 0)]),
        );
        check(
            key,
            version,
            (&sent, Some(&left)),
            (&ok, &shown),
            &["consume topic \"seen\""],
        );
        let (sent, shown) = (commit("others", &["quakes"]), committed(&[("quakes", 30)]));
        check(
            key,
            version,
            (&sent, None),
            (&ok, &shown),
            &["use group \"others\""],
        );
        let (sent, shown) = (commit("others", &[]), committed(&[]));
        check(
            key,
            version,
            (&sent, None),
            (&ok, &shown),
            &["use group \"others\""],
        );
    }
}

#[test]
fn offsets_are_fetched_by_a_group_for_what_may_be_described() {
    for version in versions(ApiKey::OffsetFetch) {
        let key = ApiKey::OffsetFetch;
        let request = |name: &str, topics: Option<&[&str]>| {
            let data = |name: &&str| {
                OffsetFetchRequestTopic::default()
                    .with_name(topic(name))
                    .with_partition_indexes(vec![3, 4])
            };
            OffsetFetchRequest::default()
                .with_group_id(group(name))
                .with_topics(topics.map(|topics| topics.iter().map(data).collect()))
        };
        let response = |topics: &[(&str, i16)]| {
            let data = |(name, error): &(&str, i16)| {
                let partition = |index| {
                    let offset = if *error == 0 { 8 } else { -1 };
                    OffsetFetchResponsePartition::default()
                        .with_partition_index(index)
                        .with_committed_offset(offset)
                        .with_metadata(Some(text("")))
                        .with_error_code(*error)
                };
                OffsetFetchResponseTopic::default()
                    .with_name(topic(name))
                    .with_partitions(vec![partition(3), partition(4)])
            };
            OffsetFetchResponse::default().with_topics(topics.iter().map(data).collect())
        };
        let sent = request("readers", Some(&["secret", "quakes"]));
        let left = request("readers", Some(&["quakes"]));
        let (ok, shown) = (
            response(&[("quakes", 0)]),
            response(&[("secret", 29), ("quakes", 0)]),
        );
        let told = ["describe topic \"secret\""];
        check(key, version, (&sent, Some(&left)), (&ok, &shown), &told);
        let (sent, shown) = (
            request("readers", Some(&["secret"])),
            response(&[("secret", 29)]),
        );
        check(key, version, (&sent, None), (&ok, &shown), &told);
        if version >= 2 {
            let sent = request("readers", None);
            let (ok, shown) = (
                response(&[("quakes", 0), ("secret", 0)]),
                response(&[("quakes", 0)]),
            );
            check(key, version, (&sent, Some(&sent)), (&ok, &shown), &[]);
        }
        let shown = match version {
            ..2 => response(&[("quakes", 30)]),
            _ => OffsetFetchResponse::default().with_error_code(30),
        };
        let sent = request("others", Some(&["quakes"]));
        check(
            key,
            version,
            (&sent, None),
            (&ok, &shown),
            &["use group \"others\""],
        );
    }
}

#[test]
fn groups_are_described_one_by_one() {
    for version in versions(ApiKey::DescribeGroups) {
        let request = |groups: &[&str]| {
            DescribeGroupsRequest::default()
                .with_groups(groups.iter().map(|name| group(name)).collect())
        };
        let response = |groups: &[(&str, i16)]| {
            let data = |(name, error): &(&str, i16)| {
                DescribedGroup::default()
                    .with_group_id(group(name))
                    .with_error_code(*error)
            };
            DescribeGroupsResponse::default().with_groups(groups.iter().map(data).collect())
        };
        let (sent, left) = (request(&["others", "readers"]), request(&["readers"]));
        let (ok, shown) = (
            response(&[("readers", 0)]),
            response(&[("others", 30), ("readers", 0)]),
        );
        let told = ["use group \"others\""];
        check(
            ApiKey::DescribeGroups,
            version,
            (&sent, Some(&left)),
            (&ok, &shown),
            &told,
        );
        let shown = response(&[("others", 30)]);
        check(
            ApiKey::DescribeGroups,
            version,
            (&request(&["others"]), None),
            (&ok, &shown),
            &told,
        );
    }
}

/// A request that names a group: that of the right passes, another is answered here.
fn by_group<Q, A>(key: ApiKey, request: impl Fn(GroupId) -> Q, ok: &A, refused: impl Fn(i16) -> A)
where
    Q: Encodable + HeaderVersion,
    A: Encodable + Decodable + HeaderVersion + PartialEq + std::fmt::Debug,
{
    let told = ["use group \"others\""];
    for version in versions(key) {
        let sent = request(group("readers"));
        check(key, version, (&sent, Some(&sent)), (ok, ok), &[]);
        let (sent, shown) = (request(group("others")), refused(version));
        check(key, version, (&sent, None), (ok, &shown), &told);
    }
}

#[test]
fn groups_are_joined_kept_and_left_by_right() {
    let ok = JoinGroupResponse::default().with_protocol_name(Some(text("")));
    by_group(
        ApiKey::JoinGroup,
        |group| JoinGroupRequest::default().with_group_id(group),
        &ok,
        |version| {
            let shown = ok.clone().with_error_code(30);
            match version >= 7 {
                true => shown.with_protocol_name(None),
                false => shown,
            }
        },
    );
    by_group(
        ApiKey::SyncGroup,
        |group| SyncGroupRequest::default().with_group_id(group),
        &SyncGroupResponse::default(),
        |_| SyncGroupResponse::default().with_error_code(30),
    );
    by_group(
        ApiKey::Heartbeat,
        |group| HeartbeatRequest::default().with_group_id(group),
        &HeartbeatResponse::default(),
        |_| HeartbeatResponse::default().with_error_code(30),
    );
    by_group(
        ApiKey::LeaveGroup,
        |group| LeaveGroupRequest::default().with_group_id(group),
        &LeaveGroupResponse::default(),
        |_| LeaveGroupResponse::default().with_error_code(30),
    );
}

#[test]
fn coordinators_are_found_by_right() {
    for version in versions(ApiKey::FindCoordinator) {
        let request = |key: &str, kind| {
            FindCoordinatorRequest::default()
                .with_key(text(key))
                .with_key_type(kind)
        };
        let at = |error, node: i32, host: &str, port| {
            FindCoordinatorResponse::default()
                .with_error_code(error)
                .with_error_message((version < 1).then(|| text("")))
                .with_node_id(BrokerId(node))
                .with_host(text(host))
                .with_port(port)
        };
        let (ok, shown) = (at(0, 1, "real", 9092), at(0, 1, "local", 9092));
        let sent = request("readers", 0);
        check(
            ApiKey::FindCoordinator,
            version,
            (&sent, Some(&sent)),
            (&ok, &shown),
            &[],
        );
        let (sent, shown) = (request("others", 0), at(30, -1, "", -1));
        let told = ["use group \"others\""];
        check(
            ApiKey::FindCoordinator,
            version,
            (&sent, None),
            (&ok, &shown),
            &told,
        );
        if version >= 1 {
            let (sent, shown) = (request("readers", 1), at(53, -1, "", -1));
            let told = ["use transactional id \"readers\""];
            check(
                ApiKey::FindCoordinator,
                version,
                (&sent, None),
                (&ok, &shown),
                &told,
            );
        }
    }
}
