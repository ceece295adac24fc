//! The requests of the protocol: those of the message definitions of Apache Kafka 4.4, with the
//! versions of theirs and the versions that are carried.
//!
//! Versions below the lowest of 4.4 are those of its predecessors, which clients of their time
//! still send; the broker decides whether it takes them.

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Api {
    /// The protocol's number for it.
    pub key: i16,
    /// The protocol's name for it.
    pub name: &'static str,
    /// The highest version in the message definitions; the lowest is 0.
    pub max_version: i16,
    /// The first version in the compact form of KIP-482.
    flexible: i16,
    /// The highest version carried, if any is; the lowest is 0, the broker decides below.
    pub carried: Option<i16>,
}

impl Api {
    /// Whether a version has the compact form of KIP-482.
    pub(crate) fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible
    }

    /// Whether the message definitions have this version.
    pub(crate) fn is_known(&self, version: i16) -> bool {
        (0..=self.max_version).contains(&version)
    }
}

/// No version has the compact form.
const NEVER: i16 = i16::MAX;

pub(crate) const PRODUCE: i16 = 0;
pub(crate) const FETCH: i16 = 1;
pub(crate) const METADATA: i16 = 3;
pub(crate) const FIND_COORDINATOR: i16 = 10;
pub(crate) const SASL_HANDSHAKE: i16 = 17;
pub(crate) const API_VERSIONS: i16 = 18;
pub(crate) const DESCRIBE_CLUSTER: i16 = 60;
pub(crate) const CONSUMER_GROUP_HEARTBEAT: i16 = 68;

const fn api(
    key: i16,
    name: &'static str,
    max_version: i16,
    flexible: i16,
    carried: Option<i16>,
) -> Api {
    Api {
        key,
        name,
        max_version,
        flexible,
        carried,
    }
}

/// Every request, in order of its key.
///
/// Fetch stops below 16 and DescribeQuorum below 2, whose answers name brokers.
pub const APIS: &[Api] = &[
    api(PRODUCE, "Produce", 13, 9, Some(13)),
    api(FETCH, "Fetch", 18, 12, Some(15)),
    api(2, "ListOffsets", 11, 6, Some(11)),
    api(METADATA, "Metadata", 13, 9, Some(13)),
    api(4, "LeaderAndIsr", 7, 4, None),
    api(5, "StopReplica", 4, 2, None),
    api(6, "UpdateMetadata", 8, 6, None),
    api(7, "ControlledShutdown", 3, 3, None),
    api(8, "OffsetCommit", 10, 8, Some(10)),
    api(9, "OffsetFetch", 10, 6, Some(10)),
    api(FIND_COORDINATOR, "FindCoordinator", 6, 3, Some(6)),
    api(11, "JoinGroup", 9, 6, Some(9)),
    api(12, "Heartbeat", 4, 4, Some(4)),
    api(13, "LeaveGroup", 5, 4, Some(5)),
    api(14, "SyncGroup", 5, 4, Some(5)),
    api(15, "DescribeGroups", 6, 5, Some(6)),
    api(16, "ListGroups", 5, 3, Some(5)),
    api(SASL_HANDSHAKE, "SaslHandshake", 1, NEVER, Some(1)),
    api(API_VERSIONS, "ApiVersions", 5, 3, Some(5)),
    api(19, "CreateTopics", 7, 5, Some(7)),
    api(20, "DeleteTopics", 6, 4, Some(6)),
    api(21, "DeleteRecords", 2, 2, Some(2)),
    api(22, "InitProducerId", 6, 2, Some(5)),
    api(23, "OffsetForLeaderEpoch", 4, 4, Some(4)),
    api(24, "AddPartitionsToTxn", 5, 3, Some(5)),
    api(25, "AddOffsetsToTxn", 4, 3, Some(4)),
    api(26, "EndTxn", 5, 3, Some(5)),
    api(27, "WriteTxnMarkers", 2, 1, None),
    api(28, "TxnOffsetCommit", 6, 3, Some(6)),
    api(29, "DescribeAcls", 3, 2, Some(3)),
    api(30, "CreateAcls", 3, 2, Some(3)),
    api(31, "DeleteAcls", 3, 2, Some(3)),
    api(32, "DescribeConfigs", 4, 4, Some(4)),
    api(33, "AlterConfigs", 2, 2, Some(2)),
    api(34, "AlterReplicaLogDirs", 2, 2, Some(2)),
    api(35, "DescribeLogDirs", 5, 2, Some(5)),
    api(36, "SaslAuthenticate", 2, 2, Some(2)),
    api(37, "CreatePartitions", 3, 2, Some(3)),
    api(38, "CreateDelegationToken", 3, 2, Some(3)),
    api(39, "RenewDelegationToken", 2, 2, Some(2)),
    api(40, "ExpireDelegationToken", 2, 2, Some(2)),
    api(41, "DescribeDelegationToken", 3, 2, Some(3)),
    api(42, "DeleteGroups", 3, 2, Some(3)),
    api(43, "ElectLeaders", 2, 2, Some(2)),
    api(44, "IncrementalAlterConfigs", 1, 1, Some(1)),
    api(45, "AlterPartitionReassignments", 1, 0, Some(1)),
    api(46, "ListPartitionReassignments", 0, 0, Some(0)),
    api(47, "OffsetDelete", 0, NEVER, Some(0)),
    api(48, "DescribeClientQuotas", 1, 1, Some(1)),
    api(49, "AlterClientQuotas", 1, 1, Some(1)),
    api(50, "DescribeUserScramCredentials", 0, 0, Some(0)),
    api(51, "AlterUserScramCredentials", 0, 0, Some(0)),
    api(52, "Vote", 2, 0, None),
    api(53, "BeginQuorumEpoch", 1, 1, None),
    api(54, "EndQuorumEpoch", 1, 1, None),
    api(55, "DescribeQuorum", 2, 0, Some(1)),
    api(56, "AlterPartition", 3, 0, None),
    api(57, "UpdateFeatures", 2, 0, Some(2)),
    api(58, "Envelope", 0, 0, None),
    api(59, "FetchSnapshot", 1, 0, None),
    api(DESCRIBE_CLUSTER, "DescribeCluster", 2, 0, Some(2)),
    api(61, "DescribeProducers", 0, 0, Some(0)),
    api(62, "BrokerRegistration", 4, 0, None),
    api(63, "BrokerHeartbeat", 2, 0, None),
    api(64, "UnregisterBroker", 0, 0, Some(0)),
    api(65, "DescribeTransactions", 0, 0, Some(0)),
    api(66, "ListTransactions", 2, 0, Some(2)),
    api(67, "AllocateProducerIds", 0, 0, None),
    api(
        CONSUMER_GROUP_HEARTBEAT,
        "ConsumerGroupHeartbeat",
        1,
        0,
        Some(1),
    ),
    api(69, "ConsumerGroupDescribe", 1, 0, Some(1)),
    api(70, "ControllerRegistration", 0, 0, None),
    api(71, "GetTelemetrySubscriptions", 0, 0, None),
    api(72, "PushTelemetry", 0, 0, None),
    api(73, "AssignReplicasToDirs", 0, 0, None),
    api(74, "ListConfigResources", 1, 0, Some(1)),
    api(75, "DescribeTopicPartitions", 0, 0, Some(0)),
    api(76, "ShareGroupHeartbeat", 1, 0, None),
    api(77, "ShareGroupDescribe", 1, 0, None),
    api(78, "ShareFetch", 2, 0, None),
    api(79, "ShareAcknowledge", 2, 0, None),
    api(80, "AddRaftVoter", 1, 0, None),
    api(81, "RemoveRaftVoter", 0, 0, None),
    api(82, "UpdateRaftVoter", 0, 0, None),
    api(83, "InitializeShareGroupState", 0, 0, None),
    api(84, "ReadShareGroupState", 0, 0, None),
    api(85, "WriteShareGroupState", 1, 0, None),
    api(86, "DeleteShareGroupState", 0, 0, None),
    api(87, "ReadShareGroupStateSummary", 1, 0, None),
    api(88, "StreamsGroupHeartbeat", 1, 0, None),
    api(89, "StreamsGroupDescribe", 1, 0, None),
    api(90, "DescribeShareGroupOffsets", 1, 0, None),
    api(91, "AlterShareGroupOffsets", 0, 0, None),
    api(92, "DeleteShareGroupOffsets", 0, 0, None),
    api(93, "StreamsGroupTopologyDescriptionUpdate", 0, 0, None),
    api(94, "UnregisterController", 0, 0, None),
];

/// The request of this key.
pub(crate) fn find(key: i16) -> Option<&'static Api> {
    let at = APIS.binary_search_by_key(&key, |api| api.key).ok()?;
    APIS.get(at)
}

/// The request of a key that the list has, for tables that the compiler makes.
#[expect(clippy::indexing_slicing, reason = "the compiler alone runs it")]
pub(crate) const fn listed(key: i16) -> &'static Api {
    let mut at = 0;
    while APIS[at].key != key {
        at += 1;
    }
    &APIS[at]
}

/// The versions carried of the request of this key.
pub(crate) fn carried(key: i16) -> Option<(i16, i16)> {
    find(key)?.carried.map(|max_version| (0, max_version))
}

/// Whether a feature of the cluster, as it names them, is carried. Share groups are not, nor are
/// those of Kafka Streams, nor what is yet to be invented.
pub(crate) fn carries_feature(feature: &[u8]) -> bool {
    matches!(
        feature,
        b"metadata.version"
            | b"kraft.version"
            | b"eligible.leader.replicas.version"
            | b"transaction.version"
            | b"group.version"
    )
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;

    use super::*;

    /// The crate `kafka_protocol` has the message definitions of an earlier Apache Kafka.
    #[test]
    fn the_list_is_in_order_and_has_what_the_published_protocol_has() {
        assert!(APIS.is_sorted_by(|a, b| a.key < b.key));
        for known in ApiKey::iter() {
            let api = find(known as i16).unwrap_or_else(|| panic!("{known:?}"));
            assert_eq!(format!("{known:?}"), api.name);
            let versions = known.valid_versions();
            assert!(versions.max <= api.max_version, "{}", api.name);
            for version in versions.min..=versions.max {
                assert_eq!(
                    known.request_header_version(version) >= 2,
                    api.is_flexible(version),
                    "{} {version}",
                    api.name
                );
            }
        }
        for api in APIS {
            assert!(api.carried <= Some(api.max_version), "{}", api.name);
        }
    }

    #[test]
    fn answers_that_name_brokers_out_of_reach_are_not_offered() {
        assert_eq!(carried(ApiKey::Fetch as i16), Some((0, 15)));
        assert_eq!(carried(ApiKey::DescribeQuorum as i16), Some((0, 1)));
        for key in [
            ApiKey::ShareFetch,
            ApiKey::ShareAcknowledge,
            ApiKey::PushTelemetry,
        ] {
            assert_eq!(carried(key as i16), None);
        }
    }
}
