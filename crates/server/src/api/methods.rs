//! Who may call what: SPIRE's table, and Renkei's own methods below it.
//!
//! All other methods are refused.

/// What a caller must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Everyone, even without an SVID.
    Anyone,
    /// An attested node, banned neither nor replaced: of Renkei or of SPIRE.
    Agent,
    /// The same, of Renkei alone.
    Node,
    /// A process of the server's own user, or of root, on the local socket.
    Local,
    /// The SVID of an entry with `admin`.
    Admin,
    /// The SVID of an entry with `downstream`.
    Downstream,
}

impl Class {
    /// For people: who it is.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Anyone => "everyone",
            Self::Agent => "the SVID of a node",
            Self::Node => "a node of Renkei",
            Self::Local => "the local socket",
            Self::Admin => "the SVID of an entry with `admin`",
            Self::Downstream => "the SVID of an entry with `downstream`",
        }
    }
}

use Class::{Admin, Agent, Anyone, Downstream, Local, Node};

/// SPIRE's services with the classes that SPIRE gives their methods, and Renkei's own.
const TABLE: [(&str, &[&str], &[Class]); 18] = [
    (
        "spire.api.server.agent.v1.Agent",
        &["AttestAgent"],
        &[Anyone],
    ),
    (
        "spire.api.server.agent.v1.Agent",
        &["RenewAgent", "PostStatus"],
        &[Agent],
    ),
    (
        "spire.api.server.agent.v1.Agent",
        &[
            "CountAgents",
            "ListAgents",
            "GetAgent",
            "DeleteAgent",
            "BanAgent",
            "CreateJoinToken",
        ],
        &[Local, Admin],
    ),
    (
        "spire.api.server.entry.v1.Entry",
        &["GetAuthorizedEntries", "SyncAuthorizedEntries"],
        &[Agent],
    ),
    (
        "spire.api.server.entry.v1.Entry",
        &[
            "CountEntries",
            "ListEntries",
            "GetEntry",
            "BatchCreateEntry",
            "BatchUpdateEntry",
            "BatchDeleteEntry",
        ],
        &[Local, Admin],
    ),
    (
        "spire.api.server.svid.v1.SVID",
        &["BatchNewX509SVID", "NewJWTSVID", "BatchNewWITSVID"],
        &[Agent],
    ),
    (
        "spire.api.server.svid.v1.SVID",
        &["MintX509SVID", "MintJWTSVID", "MintWITSVID"],
        &[Local, Admin],
    ),
    (
        "spire.api.server.svid.v1.SVID",
        &["NewDownstreamX509CA"],
        &[Downstream],
    ),
    (
        "spire.api.server.bundle.v1.Bundle",
        &["GetBundle"],
        &[Anyone],
    ),
    (
        "spire.api.server.bundle.v1.Bundle",
        &["GetFederatedBundle"],
        &[Local, Admin, Agent],
    ),
    (
        "spire.api.server.bundle.v1.Bundle",
        &["PublishJWTAuthority", "PublishWITAuthority"],
        &[Downstream],
    ),
    (
        "spire.api.server.bundle.v1.Bundle",
        &[
            "CountBundles",
            "AppendBundle",
            "ListFederatedBundles",
            "BatchCreateFederatedBundle",
            "BatchUpdateFederatedBundle",
            "BatchSetFederatedBundle",
            "BatchDeleteFederatedBundle",
        ],
        &[Local, Admin],
    ),
    (
        "spire.api.server.trustdomain.v1.TrustDomain",
        &[
            "ListFederationRelationships",
            "GetFederationRelationship",
            "BatchCreateFederationRelationship",
            "BatchUpdateFederationRelationship",
            "BatchDeleteFederationRelationship",
            "RefreshBundle",
        ],
        &[Local, Admin],
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority",
        &[
            "GetJWTAuthorityState",
            "PrepareJWTAuthority",
            "ActivateJWTAuthority",
            "TaintJWTAuthority",
            "RevokeJWTAuthority",
            "GetX509AuthorityState",
            "PrepareX509Authority",
            "ActivateX509Authority",
            "TaintX509Authority",
            "TaintX509UpstreamAuthority",
            "RevokeX509Authority",
            "RevokeX509UpstreamAuthority",
            "GetWITAuthorityState",
            "PrepareWITAuthority",
            "ActivateWITAuthority",
            "TaintWITAuthority",
            "RevokeWITAuthority",
        ],
        &[Local, Admin],
    ),
    (
        "spire.api.server.logger.v1.Logger",
        &["GetLogger", "SetLogLevel", "ResetLogLevel"],
        &[Local],
    ),
    ("spire.api.server.debug.v1.Debug", &["GetInfo"], &[Local]),
    ("grpc.health.v1.Health", &["Check", "Watch"], &[Local]),
    ("renkei.node.v1.Node", &["Follow", "ReadBundle"], &[Node]),
];

/// Who may call the method of this path.
pub(super) fn classes(path: &str) -> Option<&'static [Class]> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let found = TABLE
        .iter()
        .find(|(known, methods, _)| *known == service && methods.contains(&method));
    found.map(|(_, _, classes)| *classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of SPIRE's server, method by method, and ours behind it.
    const EXPECTED: &str = "
        agent.v1.Agent/AttestAgent: anyone
        agent.v1.Agent/RenewAgent: agent
        agent.v1.Agent/PostStatus: agent
        agent.v1.Agent/CountAgents: local admin
        agent.v1.Agent/ListAgents: local admin
        agent.v1.Agent/GetAgent: local admin
        agent.v1.Agent/DeleteAgent: local admin
        agent.v1.Agent/BanAgent: local admin
        agent.v1.Agent/CreateJoinToken: local admin
        entry.v1.Entry/GetAuthorizedEntries: agent
        entry.v1.Entry/SyncAuthorizedEntries: agent
        entry.v1.Entry/CountEntries: local admin
        entry.v1.Entry/ListEntries: local admin
        entry.v1.Entry/GetEntry: local admin
        entry.v1.Entry/BatchCreateEntry: local admin
        entry.v1.Entry/BatchUpdateEntry: local admin
        entry.v1.Entry/BatchDeleteEntry: local admin
        svid.v1.SVID/BatchNewX509SVID: agent
        svid.v1.SVID/NewJWTSVID: agent
        svid.v1.SVID/BatchNewWITSVID: agent
        svid.v1.SVID/MintX509SVID: local admin
        svid.v1.SVID/MintJWTSVID: local admin
        svid.v1.SVID/MintWITSVID: local admin
        svid.v1.SVID/NewDownstreamX509CA: downstream
        bundle.v1.Bundle/GetBundle: anyone
        bundle.v1.Bundle/GetFederatedBundle: local admin agent
        bundle.v1.Bundle/PublishJWTAuthority: downstream
        bundle.v1.Bundle/PublishWITAuthority: downstream
        bundle.v1.Bundle/CountBundles: local admin
        bundle.v1.Bundle/AppendBundle: local admin
        bundle.v1.Bundle/ListFederatedBundles: local admin
        bundle.v1.Bundle/BatchCreateFederatedBundle: local admin
        bundle.v1.Bundle/BatchUpdateFederatedBundle: local admin
        bundle.v1.Bundle/BatchSetFederatedBundle: local admin
        bundle.v1.Bundle/BatchDeleteFederatedBundle: local admin
        trustdomain.v1.TrustDomain/ListFederationRelationships: local admin
        trustdomain.v1.TrustDomain/GetFederationRelationship: local admin
        trustdomain.v1.TrustDomain/BatchCreateFederationRelationship: local admin
        trustdomain.v1.TrustDomain/BatchUpdateFederationRelationship: local admin
        trustdomain.v1.TrustDomain/BatchDeleteFederationRelationship: local admin
        trustdomain.v1.TrustDomain/RefreshBundle: local admin
        localauthority.v1.LocalAuthority/GetJWTAuthorityState: local admin
        localauthority.v1.LocalAuthority/PrepareJWTAuthority: local admin
        localauthority.v1.LocalAuthority/ActivateJWTAuthority: local admin
        localauthority.v1.LocalAuthority/TaintJWTAuthority: local admin
        localauthority.v1.LocalAuthority/RevokeJWTAuthority: local admin
        localauthority.v1.LocalAuthority/GetX509AuthorityState: local admin
        localauthority.v1.LocalAuthority/PrepareX509Authority: local admin
        localauthority.v1.LocalAuthority/ActivateX509Authority: local admin
        localauthority.v1.LocalAuthority/TaintX509Authority: local admin
        localauthority.v1.LocalAuthority/TaintX509UpstreamAuthority: local admin
        localauthority.v1.LocalAuthority/RevokeX509Authority: local admin
        localauthority.v1.LocalAuthority/RevokeX509UpstreamAuthority: local admin
        localauthority.v1.LocalAuthority/GetWITAuthorityState: local admin
        localauthority.v1.LocalAuthority/PrepareWITAuthority: local admin
        localauthority.v1.LocalAuthority/ActivateWITAuthority: local admin
        localauthority.v1.LocalAuthority/TaintWITAuthority: local admin
        localauthority.v1.LocalAuthority/RevokeWITAuthority: local admin
        logger.v1.Logger/GetLogger: local
        logger.v1.Logger/SetLogLevel: local
        logger.v1.Logger/ResetLogLevel: local
        debug.v1.Debug/GetInfo: local";

    #[test]
    fn every_method_has_the_classes_of_spire() {
        let mut methods = 0;
        for line in EXPECTED.trim().lines() {
            let (path, expected) = line.trim().split_once(": ").unwrap();
            let found = classes(&format!("/spire.api.server.{path}")).unwrap();
            let found: Vec<String> = found
                .iter()
                .map(|class| format!("{class:?}").to_lowercase())
                .collect();
            assert_eq!(found.join(" "), expected, "{path}");
            methods += 1;
        }
        let listed: usize = TABLE.iter().map(|(_, methods, _)| methods.len()).sum();
        assert_eq!(listed, methods + 4, "with those of nodes and of health");
        for method in ["Check", "Watch"] {
            let path = format!("/grpc.health.v1.Health/{method}");
            assert_eq!(classes(&path), Some(&[Local][..]));
        }
        for method in ["Follow", "ReadBundle"] {
            let path = format!("/renkei.node.v1.Node/{method}");
            assert_eq!(classes(&path), Some(&[Node][..]));
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_nobodys() {
        for path in [
            "",
            "/",
            "/a",
            "/renkei.node.v1.Node/",
            "/x/Follow",
            "/spire.api.server.logger.v1.Logger/Get",
        ] {
            assert_eq!(classes(path), None, "{path}");
        }
    }
}
