//! A server that sends no changes by itself, such as SPIRE's: it is asked for the entries of this
//! node and for bundles, every few seconds, as SPIRE's agents do. An answer that fails changes
//! nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use renkei_api::{
    node::{AgentPart, Entry, EntryId},
    node_stream::Fault,
    spire::api::{
        server::{
            bundle::v1::{
                GetBundleRequest, GetFederatedBundleRequest, bundle_client::BundleClient,
            },
            entry::v1::{GetAuthorizedEntriesRequest, entry_client::EntryClient},
        },
        types,
    },
};
use renkei_runtime::backoff::jitter;
use renkei_site::Selector;
use renkei_spiffe::{Bundle, BundleSet, SpiffeId, TrustDomain};
use rustls_pki_types::CertificateDer;
use tokio::time::Instant;
use tonic::{Code, Response, Status, transport::Channel};

use super::{ANSWER_TIME, LinkError, update::Update};

/// How long after one answer the server is asked again: SPIRE's `sync_interval`.
const INTERVAL: Duration = Duration::from_secs(5);
/// The largest answer: thousands of entries.
const MAX_ANSWER: usize = 16 << 20;
/// The most trust domains whose bundles are asked for.
const MAX_FEDERATED: usize = 1_000;
/// The path of the server's ID.
const SERVER: &str = "/spire/server";
/// What SVIDs live for is the server's choice; a change of it concerns those of the next renewal.
const LIFETIME: Duration = Duration::from_hours(1);

/// Asks one server, over one connection.
pub(super) struct Poller {
    source: Source,
    /// The answer that is waited for. It is kept when the wait for it is cancelled: asking for many
    /// bundles may take longer than one wait.
    asking: Option<BoxFuture<'static, Result<Answer, LinkError>>>,
    next: Instant,
    version: u64,
    latest: Option<(AgentPart, BundleSet)>,
}

/// Whom to ask, and for which trust domain.
#[derive(Debug, Clone)]
struct Source {
    channel: Channel,
    own: TrustDomain,
}

/// What the server has answered, as far as it can be used.
#[derive(Debug)]
struct Answer {
    part: AgentPart,
    bundles: BundleSet,
    faults: Vec<Fault>,
}

impl Poller {
    pub(super) fn new(channel: Channel, own: TrustDomain) -> Self {
        Self {
            source: Source { channel, own },
            asking: None,
            next: Instant::now(),
            version: 0,
            latest: None,
        }
    }

    /// The next answer. May be cancelled.
    pub(super) async fn next(&mut self) -> Result<Update, LinkError> {
        tokio::time::sleep_until(self.next).await;
        let source = &self.source;
        let asking = self
            .asking
            .get_or_insert_with(|| Box::pin(source.clone().ask()));
        let answer = asking.as_mut().await;
        self.asking = None;
        self.next = Instant::now() + jitter(INTERVAL);
        Ok(self.update(answer?))
    }

    /// The version rises with what is wanted, and not with each answer.
    fn update(&mut self, answer: Answer) -> Update {
        let Answer {
            part,
            bundles,
            faults,
        } = answer;
        let wanted = (part, bundles);
        if self.latest.as_ref() != Some(&wanted) {
            self.version += 1;
            self.latest = Some(wanted.clone());
        }
        let (part, bundles) = wanted;
        Update {
            version: self.version,
            bundles: Ok(bundles),
            agent: Ok(part),
            proxy: None,
            faults,
        }
    }
}

impl Source {
    async fn ask(self) -> Result<Answer, LinkError> {
        let mut client =
            EntryClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
        let request = GetAuthorizedEntriesRequest { output_mask: None };
        let answer = in_time(client.get_authorized_entries(request)).await??;
        let entries = answer.into_inner().entries;
        let names = federated(&entries);
        let (part, mut faults) = part(&self.own, entries);
        let bundles = self.bundles(names, &mut faults).await?;
        Ok(Answer {
            part,
            bundles,
            faults,
        })
    }

    /// The bundle of the own trust domain, and those that entries federate with. One that cannot be
    /// had or used is left out.
    async fn bundles(
        &self,
        names: BTreeSet<String>,
        faults: &mut Vec<Fault>,
    ) -> Result<BundleSet, LinkError> {
        let mut client =
            BundleClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
        let mut bundles = BundleSet::default();
        let mut note = |name: &str, bundle: Result<Bundle, String>| match bundle {
            Ok(bundle) => bundles.insert(Arc::new(bundle)),
            Err(reason) => faults.push(Fault {
                item: format!("bundle of {}", name.chars().take(255).collect::<String>()),
                reason,
            }),
        };
        let own = GetBundleRequest { output_mask: None };
        let answer = in_time(client.get_bundle(own)).await??.into_inner();
        note(self.own.as_str(), read(self.own.as_str(), answer));
        for name in names.into_iter().filter(|name| name != self.own.as_str()) {
            let request = GetFederatedBundleRequest {
                trust_domain: name.clone(),
                output_mask: None,
            };
            let bundle = match in_time(client.get_federated_bundle(request)).await? {
                Ok(bundle) => read(&name, bundle.into_inner()),
                Err(status) if status.code() == Code::NotFound => {
                    Err("the server has no bundle of it".to_owned())
                }
                Err(status) => return Err(status.into()),
            };
            note(&name, bundle);
        }
        Ok(bundles)
    }
}

async fn in_time<T>(
    asked: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<Result<Response<T>, Status>, LinkError> {
    let answer = tokio::time::timeout(ANSWER_TIME, asked).await;
    answer.map_err(|_| LinkError::Timeout)
}

fn federated(entries: &[types::Entry]) -> BTreeSet<String> {
    let names = entries.iter().flat_map(|entry| &entry.federates_with);
    names.take(MAX_FEDERATED).cloned().collect()
}

/// The bundle that was asked for: an answer of another trust domain would put its CAs in the place
/// of that one's.
fn read(asked: &str, bundle: types::Bundle) -> Result<Bundle, String> {
    let trust_domain = TrustDomain::parse(asked).map_err(|error| error.to_string())?;
    if TrustDomain::parse(&bundle.trust_domain).as_ref() != Ok(&trust_domain) {
        let other: String = bundle.trust_domain.chars().take(255).collect();
        return Err(format!("the server sent the bundle of {other:?} instead"));
    }
    let authorities = bundle.x509_authorities.into_iter();
    Ok(Bundle {
        x509_authorities: authorities
            .map(|authority| CertificateDer::from(authority.asn1))
            .collect(),
        sequence: Some(bundle.sequence_number),
        ..Bundle::empty(trust_domain)
    })
}

/// The entries that this agent can serve, and what is left out.
fn part(own: &TrustDomain, entries: Vec<types::Entry>) -> (AgentPart, Vec<Fault>) {
    let (mut taken, mut faults) = (BTreeMap::new(), Vec::new());
    for entry in entries {
        if !is_for_processes(&entry) {
            continue;
        }
        let item = format!("entry {}", entry.id.chars().take(64).collect::<String>());
        match entry_of(own, entry) {
            Ok(entry) => {
                taken.insert(entry.id.clone(), entry);
            }
            Err(reason) => faults.push(Fault { item, reason }),
        }
    }
    let part = AgentPart {
        version: 0,
        trust_domain: own.clone(),
        svid_lifetime: LIFETIME,
        entries: taken.into_values().collect(),
    };
    (part, faults)
}

/// Not so an SVID for a store of secrets, and the alias of a node, whose parent is the server.
fn is_for_processes(entry: &types::Entry) -> bool {
    let parent = entry.parent_id.as_ref();
    let is_alias = parent.is_some_and(|parent| parent.path == SERVER);
    !entry.store_svid && !is_alias
}

fn entry_of(own: &TrustDomain, entry: types::Entry) -> Result<Entry, String> {
    let id = EntryId::parse(entry.id).map_err(|error| error.to_string())?;
    let spiffe_id = entry.spiffe_id.ok_or("it has no SPIFFE ID")?;
    let text = format!("spiffe://{}{}", spiffe_id.trust_domain, spiffe_id.path);
    let spiffe_id = SpiffeId::parse(&text).map_err(|error| error.to_string())?;
    if spiffe_id.trust_domain() != own {
        return Err(format!("{spiffe_id} is not of {own}"));
    }
    let selectors = entry.selectors.into_iter().map(|selector| {
        let text = format!("{}:{}", selector.r#type, selector.value);
        Selector::parse(&text).map_err(|error| error.to_string())
    });
    let selectors = selectors.collect::<Result<Vec<_>, _>>()?;
    // Without selectors it would be for no process.
    match selectors.is_empty() {
        true => Err("it has no selectors".to_owned()),
        false => Ok(Entry {
            id,
            revision: u64::try_from(entry.revision_number).unwrap_or_default(),
            spiffe_id,
            hint: entry.hint,
            is_default: false,
            selectors,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, path: &str, selectors: &[(&str, &str)]) -> types::Entry {
        types::Entry {
            id: id.to_owned(),
            spiffe_id: Some(types::Spiffeid {
                trust_domain: "spire.example".to_owned(),
                path: path.to_owned(),
            }),
            selectors: selectors
                .iter()
                .map(|(r#type, value)| types::Selector {
                    r#type: (*r#type).to_owned(),
                    value: (*value).to_owned(),
                })
                .collect(),
            revision_number: 3,
            ..types::Entry::default()
        }
    }

    #[test]
    fn entries_that_cannot_be_served_here_are_left_out_and_named() {
        let own = TrustDomain::parse("spire.example").unwrap();
        let mut foreign = entry("foreign", "/a", &[("unix", "uid:1")]);
        foreign.spiffe_id.as_mut().unwrap().trust_domain = "osaka.example".to_owned();
        let mut stored = entry("stored", "/a", &[("unix", "uid:1")]);
        stored.store_svid = true;
        let mut alias = entry(
            "alias",
            "/node",
            &[("spiffe_id", "spiffe://spire.example/a")],
        );
        alias.parent_id = Some(types::Spiffeid {
            trust_domain: "spire.example".to_owned(),
            path: SERVER.to_owned(),
        });
        let mut nameless = entry("nameless", "/a", &[("unix", "uid:1")]);
        nameless.spiffe_id = None;
        let entries = vec![
            entry(
                "b",
                "/ns/prod/sa/web",
                &[("unix", "uid:1000"), ("unix", "group:hpc")],
            ),
            entry("a", "/collector", &[("unix", "user:kafka")]),
            entry("pod", "/web", &[("k8s", "ns:prod")]),
            entry("none", "/web", &[]),
            entry("bad/id", "/web", &[("unix", "uid:1")]),
            entry("path", "/../web", &[("unix", "uid:1")]),
            foreign,
            stored,
            alias,
            nameless,
        ];
        let (part, faults) = part(&own, entries);
        let ids: Vec<_> = part.entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(part.entries[1].selectors.len(), 2);
        assert_eq!(part.entries[1].revision, 3);
        let items: Vec<_> = faults.iter().map(|fault| fault.item.as_str()).collect();
        let left_out = ["pod", "none", "bad/id", "path", "foreign", "nameless"];
        assert_eq!(items, left_out.map(|id| format!("entry {id}")));
    }

    #[test]
    fn a_bundle_is_taken_for_the_trust_domain_that_was_asked_for_alone() {
        let answer = |name: &str| types::Bundle {
            trust_domain: name.to_owned(),
            sequence_number: 7,
            ..types::Bundle::default()
        };
        let good = read("osaka.example", answer("osaka.example")).unwrap();
        assert_eq!(good.sequence, Some(7));
        for other in ["spire.example", "", "OSAKA EXAMPLE"] {
            let refused = read("osaka.example", answer(other)).unwrap_err();
            assert!(refused.contains("instead"), "{refused}");
        }
        read("no trust domain", answer("no trust domain")).unwrap_err();
    }

    #[tokio::test]
    async fn the_version_rises_with_what_is_wanted() {
        let channel = tonic::transport::Endpoint::from_static("http://server").connect_lazy();
        let own = TrustDomain::parse("spire.example").unwrap();
        let mut poller = Poller::new(channel, own.clone());
        let mut version = |entries: Vec<types::Entry>| {
            let (part, faults) = part(&own, entries);
            let bundles = BundleSet::default();
            let answer = Answer {
                part,
                bundles,
                faults,
            };
            poller.update(answer).version
        };
        let one = || vec![entry("a", "/a", &[("unix", "uid:1")])];
        assert_eq!(version(one()), 1);
        assert_eq!(version(one()), 1);
        assert_eq!(version(Vec::new()), 2);
    }

    #[test]
    fn the_number_of_foreign_bundles_is_bounded() {
        let mut entry = entry("a", "/a", &[("unix", "uid:1")]);
        entry.federates_with = (0..5_000).map(|at| format!("td{at}.example")).collect();
        assert_eq!(federated(&[entry]).len(), MAX_FEDERATED);
    }
}
