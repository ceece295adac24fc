//! The requests that are carried, and up to which version.

/// A kind of request, with the highest version that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Api {
    /// The protocol's number for it.
    pub key: i16,
    /// The protocol's name for it.
    pub name: &'static str,
    /// The highest version carried; the lowest is always 0, the broker decides below.
    pub max_version: i16,
}

pub(crate) const PRODUCE: i16 = 0;
pub(crate) const FETCH: i16 = 1;
pub(crate) const METADATA: i16 = 3;
pub(crate) const FIND_COORDINATOR: i16 = 10;
pub(crate) const SASL_HANDSHAKE: i16 = 17;
pub(crate) const API_VERSIONS: i16 = 18;
pub(crate) const DESCRIBE_CLUSTER: i16 = 60;

const fn api(key: i16, name: &'static str, max_version: i16) -> Api {
    Api {
        key,
        name,
        max_version,
    }
}

/// Every request that is carried, in order of its key.
///
/// Fetch stops below 16 and DescribeQuorum below 2, whose answers name brokers.
pub const CARRIED: &[Api] = &[
    api(PRODUCE, "Produce", 13),
    api(FETCH, "Fetch", 15),
    api(2, "ListOffsets", 10),
    api(METADATA, "Metadata", 13),
    api(8, "OffsetCommit", 9),
    api(9, "OffsetFetch", 9),
    api(FIND_COORDINATOR, "FindCoordinator", 6),
    api(11, "JoinGroup", 9),
    api(12, "Heartbeat", 4),
    api(13, "LeaveGroup", 5),
    api(14, "SyncGroup", 5),
    api(15, "DescribeGroups", 6),
    api(16, "ListGroups", 5),
    api(SASL_HANDSHAKE, "SaslHandshake", 1),
    api(API_VERSIONS, "ApiVersions", 4),
    api(19, "CreateTopics", 7),
    api(20, "DeleteTopics", 6),
    api(21, "DeleteRecords", 2),
    api(22, "InitProducerId", 5),
    api(23, "OffsetForLeaderEpoch", 4),
    api(24, "AddPartitionsToTxn", 5),
    api(25, "AddOffsetsToTxn", 4),
    api(26, "EndTxn", 5),
    api(28, "TxnOffsetCommit", 5),
    api(29, "DescribeAcls", 3),
    api(30, "CreateAcls", 3),
    api(31, "DeleteAcls", 3),
    api(32, "DescribeConfigs", 4),
    api(33, "AlterConfigs", 2),
    api(34, "AlterReplicaLogDirs", 2),
    api(35, "DescribeLogDirs", 4),
    api(36, "SaslAuthenticate", 2),
    api(37, "CreatePartitions", 3),
    api(38, "CreateDelegationToken", 3),
    api(39, "RenewDelegationToken", 2),
    api(40, "ExpireDelegationToken", 2),
    api(41, "DescribeDelegationToken", 3),
    api(42, "DeleteGroups", 2),
    api(43, "ElectLeaders", 2),
    api(44, "IncrementalAlterConfigs", 1),
    api(45, "AlterPartitionReassignments", 1),
    api(46, "ListPartitionReassignments", 0),
    api(47, "OffsetDelete", 0),
    api(48, "DescribeClientQuotas", 1),
    api(49, "AlterClientQuotas", 1),
    api(50, "DescribeUserScramCredentials", 0),
    api(51, "AlterUserScramCredentials", 0),
    api(55, "DescribeQuorum", 1),
    api(57, "UpdateFeatures", 2),
    api(DESCRIBE_CLUSTER, "DescribeCluster", 2),
    api(61, "DescribeProducers", 0),
    api(64, "UnregisterBroker", 0),
    api(65, "DescribeTransactions", 0),
    api(66, "ListTransactions", 2),
    api(68, "ConsumerGroupHeartbeat", 1),
    api(69, "ConsumerGroupDescribe", 1),
    api(74, "ListConfigResources", 1),
    api(75, "DescribeTopicPartitions", 0),
];

/// The carried request of this key.
pub(crate) fn find(key: i16) -> Option<&'static Api> {
    let at = CARRIED.binary_search_by_key(&key, |api| api.key).ok()?;
    CARRIED.get(at)
}

/// The versions carried of the request of this key.
pub(crate) fn carried(key: i16) -> Option<(i16, i16)> {
    find(key).map(|api| (0, api.max_version))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;

    use super::*;

    #[test]
    fn the_list_is_in_order_and_within_the_published_protocol() {
        assert!(CARRIED.is_sorted_by(|a, b| a.key < b.key));
        for api in CARRIED {
            let known = ApiKey::try_from(api.key).expect(api.name);
            assert_eq!(format!("{known:?}"), api.name);
            assert!(
                known.valid_versions().max >= api.max_version,
                "{}",
                api.name
            );
        }
    }

    #[test]
    fn answers_that_name_brokers_out_of_reach_are_not_offered() {
        assert_eq!(
            find(ApiKey::Fetch as i16).map(|api| api.max_version),
            Some(15)
        );
        assert_eq!(
            find(ApiKey::DescribeQuorum as i16).map(|api| api.max_version),
            Some(1)
        );
        for key in [
            ApiKey::ShareFetch,
            ApiKey::ShareAcknowledge,
            ApiKey::PushTelemetry,
        ] {
            assert_eq!(find(key as i16), None);
        }
    }
}
