//! The site file as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;

/// A Renkei site: its trust domain, what it offers, what runs there, and the sites that it is
/// linked with.
///
/// Identities are written `TRUST-DOMAIN/NAME`, or `NAME` for the site's own, or in full,
/// `spiffe://TRUST-DOMAIN/NAME`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "Renkei site file")]
pub(super) struct SiteFile {
    /// The name of the site, shown to operators.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,63}$"), example = &"osaka")]
    site: String,
    /// The trust domain whose authority the site is: a DNS name.
    #[schemars(regex(pattern = r"^[a-z0-9._-]{1,253}$"), example = &"osaka.example")]
    trust_domain: String,
    /// Where other sites reach this one. A site with services needs one, here or under `nodes`.
    /// With it, the process of `renkei up` is the gateway.
    gateway: Option<Gateway>,
    /// Where nodes of the site and SPIRE agents reach the site's server. Required with `nodes`.
    server: Option<Server>,
    /// The other machines of the site, by name. A name is a DNS label. `NAME` has the identity
    /// `spiffe://TRUST-DOMAIN/renkei/node/NAME`.
    nodes: Option<BTreeMap<String, Node>>,
    /// Where the bundle is also served with a web certificate (SPIFFE profile https_web). The
    /// gateway always serves it (profile https_spiffe).
    bundle_endpoint: Option<BundleEndpoint>,
    /// The sites that this one is linked with, by trust domain.
    peers: Option<BTreeMap<String, Peer>>,
    /// The peers that accept no connections and are reached through this site, their hub. Their
    /// own site files name this site as `gateway: {via: ...}`. Default: none.
    #[schemars(example = vec!("osaka.example"))]
    relays: Option<Vec<String>>,
    /// The federation file. Its members are linked with this site like peers, and need no entry
    /// here. A member reaches nothing until a service allows it.
    #[schemars(example = &"intercloud.yaml")]
    federation: Option<String>,
    /// With `federation`: trust domains that are never members for this site, even if the
    /// registrar admits them.
    #[schemars(example = vec!("kyushu.example"))]
    deny: Option<Vec<String>>,
    /// With `federation`: the members and their identities (64 hexadecimal digits), decided by
    /// this site. The registrar is then not asked.
    #[schemars(example = serde_json::json!({"tokyo.example": "6d0c..."}))]
    admit: Option<BTreeMap<String, String>>,
    /// What the site offers, by name. A name is a DNS label.
    services: Option<BTreeMap<String, Service>>,
    /// What runs at the site, by name.
    workloads: Option<BTreeMap<String, Workload>>,
    /// How long certificates live.
    lifetimes: Option<Lifetimes>,
    /// What clients of the Workload API may take up. Past a limit a request is answered with
    /// RESOURCE_EXHAUSTED.
    workload_api: Option<WorkloadApi>,
    /// The loopback address where metrics and health are served.
    #[schemars(example = &"127.0.0.1:9901")]
    admin: Option<String>,
}

/// Where other sites reach this one.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Gateway {
    /// The IP address and port that the gateway binds. Required, unless there is `via`.
    #[schemars(example = &"0.0.0.0:8443")]
    listen: Option<String>,
    /// The address that other sites dial. Default: `listen`, unless that is "any address". Not
    /// allowed with `via`, where it is the hub's.
    #[schemars(example = &"gw.osaka.example:8443")]
    advertise: Option<String>,
    /// The hub through which other sites reach this one, if they cannot dial it. The hub is a
    /// peer with a `gateway`. Its own site file names this site under `relays`.
    #[schemars(example = &"hokkaido.example")]
    via: Option<String>,
    /// The most lanes (TCP connections) of a trunk, with each pair of caller and service. On a
    /// link that others use too, each lane takes a share of its own. Default: `16`, of which
    /// only those are used that bring more bytes a second.
    #[schemars(range(min = 1, max = 16), example = 4)]
    max_lanes: Option<u8>,
    /// What the connections with all other sites may carry together, in each direction: a
    /// number and kbit/s, Mbit/s or Gbit/s. Default: no limit.
    #[schemars(regex(pattern = r"^[0-9]+ ?[kMG]bit/s$"), example = &"500 Mbit/s")]
    bandwidth: Option<String>,
}

/// Where nodes and SPIRE agents reach the site's server.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Server {
    /// The IP address and port that the server binds.
    #[schemars(example = &"0.0.0.0:8081")]
    listen: String,
    /// The address that nodes dial. Default: `listen`, unless that is "any address".
    #[schemars(example = &"server.osaka.example:8081")]
    advertise: Option<String>,
}

/// A machine of the site.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Node {
    /// Where other sites reach services of this one through the node. A node without it needs no
    /// inbound port: it keeps a link to every gateway of the site that leads to its services.
    gateway: Option<NodeGateway>,
    /// `gateway`: connections to other sites leave through a gateway of the site, the first by
    /// name, which forwards TLS that it cannot read. For nodes without a route outside. Default:
    /// the node dials other sites itself.
    #[schemars(regex(pattern = r"^gateway$"), example = &"gateway")]
    via: Option<String>,
}

/// The gateway of a node.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct NodeGateway {
    /// The IP address and port that the gateway binds.
    #[schemars(example = &"0.0.0.0:8443")]
    listen: String,
    /// The address that other sites and the site's other nodes dial. Default: `listen`, unless
    /// that is "any address".
    #[schemars(example = &"gw.osaka.example:8443")]
    advertise: Option<String>,
    /// The most lanes (TCP connections) of a trunk that ends at this node. Default: `16`.
    #[schemars(range(min = 1, max = 16), example = 4)]
    max_lanes: Option<u8>,
    /// What the connections with all other sites through this gateway may carry together, in each
    /// direction: a number and kbit/s, Mbit/s or Gbit/s. Default: no limit.
    #[schemars(regex(pattern = r"^[0-9]+ ?[kMG]bit/s$"), example = &"500 Mbit/s")]
    bandwidth: Option<String>,
}

/// A bundle endpoint with a web certificate.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct BundleEndpoint {
    /// The IP address and port that the endpoint binds.
    #[schemars(example = &"0.0.0.0:443")]
    listen: String,
    /// PEM file of the certificate chain.
    certificate: String,
    /// PEM file of the key.
    key: String,
}

/// A site that this one is linked with.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Peer {
    /// The lasting identity of a Renkei site, as `renkei identity` prints it there: 64
    /// hexadecimal digits, with `@VERSION` behind them if the peer's site root has a later
    /// version. The peer's bundle then comes from its gateway, whatever CA it has. Each peer
    /// needs `identity` or `bundle`.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}(@[1-9][0-9]*)?$"), example = &"6d0c...")]
    identity: Option<String>,
    /// Where the peer's services are reached. A peer with `bundle` that only calls needs none.
    #[schemars(example = &"gw.osaka.example:8443")]
    gateway: Option<String>,
    /// Where the bundle of a peer without `identity` comes from, such as a SPIRE site: the https
    /// URL of a bundle endpoint, or the name of a file that holds the bundle document.
    #[schemars(example = &"https://gw.osaka.example:8443/")]
    bundle: Option<String>,
    /// The file of the bundle to trust until the first fetch. With it the endpoint
    /// authenticates with an SVID (profile https_spiffe). Without it the endpoint uses a web
    /// certificate (profile https_web).
    #[schemars(example = &"osaka.json")]
    bootstrap: Option<String>,
    /// The SPIFFE ID that a bundle endpoint with `bootstrap` must have. Default:
    /// `spiffe://PEER/renkei/server`.
    endpoint_id: Option<String>,
    /// PEM file of the authorities that may issue the web certificate of a bundle endpoint
    /// without `bootstrap`. Default: the system's.
    web_roots: Option<String>,
}

/// The session that a proxy understands.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub(super) enum Protocol {
    /// Bytes, carried without being read.
    Tcp,
    /// HTTP/1.1, decided request by request.
    Http,
    /// Kafka's protocol, with broker addresses rewritten.
    Kafka,
}

/// A service that the site offers.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Service {
    /// The SPIFFE ID, as a path or in full; for IDs with several segments. Callers of other
    /// sites name the service by it. Default: `/NAME`.
    #[schemars(example = &"/ns/prod/sa/web")]
    id: Option<String>,
    /// The nodes that hold the service. Its TLS ends there, and `backends` are seen from there.
    /// Default: the process of `renkei up` if it is a gateway, else every node that is one.
    #[schemars(length(min = 1), example = vec!("store"))]
    on: Option<Vec<String>>,
    /// The protocol that the proxy understands. Default: tcp.
    protocol: Option<Protocol>,
    /// The addresses of the service itself, as HOST:PORT or, with protocol tcp or http, as
    /// `unix:PATH`. A unix socket is not used while every user of the machine can connect to
    /// it or replace it.
    #[schemars(length(min = 1), example = vec!("127.0.0.1:9092"))]
    backends: Vec<String>,
    /// The callers that may connect. Others may not, unless `policy` allows them.
    #[schemars(example = vec!("osaka.example/collector"))]
    allow: Option<Vec<String>>,
    /// With protocol http: what each caller may do. A rule is a method (any path), a method
    /// and a path, or a method and all paths below one; `*` is any method. A host may come
    /// before the path: `GET //records.example/v1/*`. With `methods`, a caller without an
    /// entry may do nothing.
    #[schemars(example = serde_json::json!({"osaka.example/collector": ["GET /v1/records", "* /v1/own/*"]}))]
    methods: Option<BTreeMap<String, Vec<String>>>,
    /// With protocol kafka: what each caller may do with which topics and groups. With
    /// `topics`, a caller without an entry may do nothing with any topic.
    #[schemars(example = serde_json::json!({"osaka.example/collector": {"produce": ["weather"]}}))]
    topics: Option<BTreeMap<String, TopicRights>>,
    /// With protocol http: the timeout for the response to begin after the backend has the
    /// whole request. It is also the timeout for the backend to read more of the request. After
    /// it the caller gets a 504. Default: `5m`; at least `1s`, at most `1d`.
    #[schemars(example = &"30m")]
    response_timeout: Option<String>,
    /// What all callers of the service may carry together, in each direction. Default: no
    /// limit but the gateway's.
    #[schemars(regex(pattern = r"^[0-9]+ ?[kMG]bit/s$"), example = &"2 Gbit/s")]
    bandwidth: Option<String>,
    /// What each caller of the service may carry, in each direction. Default: no limit but the
    /// service's.
    #[schemars(regex(pattern = r"^[0-9]+ ?[kMG]bit/s$"), example = &"200 Mbit/s")]
    caller_bandwidth: Option<String>,
    /// A Rego file (package renkei.authz) with more rules.
    #[schemars(example = &"broker.rego")]
    policy: Option<String>,
}

/// What a caller may do at a Kafka service. A name that ends in `*` matches a prefix.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct TopicRights {
    /// Topics it may write to and describe.
    #[schemars(example = vec!("weather"))]
    produce: Option<Vec<String>>,
    /// Topics it may read and describe.
    #[schemars(example = vec!("weather-*"))]
    consume: Option<Vec<String>>,
    /// Topics it may create, by request or by using one that does not exist.
    #[schemars(example = vec!("weather-*"))]
    create: Option<Vec<String>>,
    /// Topics that it may describe, but not write or read.
    #[schemars(example = vec!("quakes"))]
    describe: Option<Vec<String>>,
    /// Consumer groups it may use.
    #[schemars(example = vec!("readers"))]
    group: Option<Vec<String>>,
}

/// A workload that runs at the site.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Workload {
    /// The SPIFFE ID, as a path or in full; for IDs with several segments. Default: `/NAME`.
    #[schemars(example = &"/ns/prod/sa/collector")]
    id: Option<String>,
    /// By what a process distinguishes this identity from its others: the `hint` of the Workload API. At
    /// most 1024 bytes, and another one for each workload. Default: the name of the workload.
    #[schemars(example = &"internal")]
    hint: Option<String>,
    /// A process that has several identities gets this one first: its default identity. Of
    /// several, the first by name. Default: false.
    #[schemars(example = &true)]
    default: Option<bool>,
    /// Selectors that a process must match to have this identity; all must match.
    #[schemars(
        length(min = 1),
        inner(regex(pattern = r"^unix:(uid|user|gid|group|path|sha256):.+$")),
        example = vec!("unix:user:kafka")
    )]
    selectors: Vec<String>,
    /// The nodes that it may run on. Default: every node, and the process of `renkei up`.
    #[schemars(length(min = 1), example = vec!("compute"))]
    on: Option<Vec<String>>,
    /// The services it calls, each with the loopback address to open for it.
    uses: Option<BTreeMap<String, String>>,
}

/// How long certificates live, as a number and s, m, h or d.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Lifetimes {
    /// Lifetime of a certificate authority. Default: 24h; at least 8m, since peers fetch the
    /// bundle once a minute at most.
    #[schemars(regex(pattern = r"^[0-9]+[smhd]$"), example = &"24h")]
    ca: Option<String>,
    /// Lifetime of an X.509-SVID. Default: 1h.
    #[schemars(regex(pattern = r"^[0-9]+[smhd]$"), example = &"1h")]
    x509_svid: Option<String>,
    /// Interval at which peers should fetch this site's bundle; at most 5/36 of `ca`, so that
    /// they learn of the next CA in time. Default: 5m.
    #[schemars(regex(pattern = r"^[0-9]+[smhd]$"), example = &"5m")]
    bundle_refresh: Option<String>,
}

/// What clients of the Workload API may take up.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct WorkloadApi {
    /// Connections of all users at once. Default: 4096; at most 65536.
    #[schemars(example = &4096)]
    connections: Option<u32>,
    /// Connections at once by processes of one user. Default: 512; at most `connections`.
    #[schemars(example = &512)]
    connections_per_user: Option<u32>,
    /// Streams at once on one connection. Default: 64; at most 65536.
    #[schemars(example = &64)]
    streams_per_connection: Option<u32>,
}
