//! A federation as one site sees it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use renkei_spiffe::TrustDomain;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// A federation as one site sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FederationStatus {
    /// The name of the federation.
    pub name: String,
    /// The name of its log.
    pub origin: String,
    /// This site's identity, once it has joined: a SHA-256 in hexadecimal digits.
    pub identity: Option<String>,
    /// What the log says of it.
    #[serde(flatten)]
    pub log: LogStatus,
    /// Where it is read.
    #[serde(default)]
    pub mirrors: Vec<MirrorStatus>,
    /// Who is a valid member, and why the others are not.
    pub members: Vec<MemberStatus>,
    /// What this site publishes about itself; nothing where only the log was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publishing: Option<Publishing>,
    /// Whether this site cosigns checkpoints, or why not.
    pub witnessing: Option<String>,
    /// What an operator has to look at now.
    #[serde(default)]
    pub alarms: Vec<String>,
}

/// The log as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogStatus {
    /// Entries of the log that were read.
    pub entries: u64,
    /// Entries that a quorum of witnesses has seen.
    pub witnessed: u64,
    /// The time that the quorum vouches for.
    #[serde(with = "time::serde::rfc3339::option")]
    pub witnessed_at: Option<OffsetDateTime>,
    /// That time is too long ago; what is known stays valid until it expires.
    pub stale: bool,
    /// How many witnesses make a quorum.
    pub quorum: usize,
    /// Every witness, and when it has cosigned the checkpoint in use.
    pub witnesses: BTreeMap<TrustDomain, Option<String>>,
    /// The last entries that were refused.
    pub refused: Vec<RefusedStatus>,
    /// How many were refused.
    pub refused_in_all: u64,
}

/// An entry of the log that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedStatus {
    /// Where in the log.
    pub entry: u64,
    /// What it called itself.
    pub kind: Option<Cow<'static, str>>,
    /// Whom it claimed to be about.
    pub trust_domain: Option<TrustDomain>,
    /// Why it was refused.
    pub reason: String,
}

/// A mirror of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorStatus {
    /// The URL or folder.
    pub mirror: String,
    /// When it was last read without fault.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_success: Option<OffsetDateTime>,
    /// What is wrong with it now.
    pub fault: Option<String>,
}

/// A member, or one that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The trust domain of the member.
    pub trust_domain: TrustDomain,
    /// The identity behind the name: a SHA-256 in hexadecimal digits.
    pub identity: String,
    /// Whether it is valid.
    pub counts: bool,
    /// Why it is excluded, if it is.
    pub reason: Option<String>,
    /// Of its newest bundle statement.
    pub sequence: Option<u64>,
    /// Of its site root.
    #[serde(default)]
    pub root_version: Option<u64>,
    /// When what is known of it expires.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
    /// Where it is reached.
    pub gateways: Vec<String>,
    /// What it offers, with protocols.
    #[serde(default)]
    pub services: BTreeMap<String, String>,
    /// Members who know it.
    #[serde(default)]
    pub endorsed_by: BTreeSet<TrustDomain>,
}

/// What a site publishes about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Publishing {
    /// Of its newest statement.
    pub sequence: Option<u64>,
    /// Whether witnesses have seen it.
    pub witnessed: bool,
    /// Why it is not submitted.
    pub fault: Option<String>,
}
