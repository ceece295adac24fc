//! Which module of a crate knows which. What is not in a table is forbidden, and the test says
//! why; what is in a table and no longer true is to be taken out.

/// A module directly below the root of a crate.
pub(crate) struct Rule {
    pub(crate) module: &'static str,
    /// The modules that it knows.
    pub(crate) knows: &'static [&'static str],
    /// Why it knows no others.
    pub(crate) reason: &'static str,
}

const fn rule(module: &'static str, knows: &'static [&'static str], reason: &'static str) -> Rule {
    Rule {
        module,
        knows,
        reason,
    }
}

/// The crates with a table.
pub(crate) const TABLES: [(&str, &[Rule]); 3] = [
    ("renkei-proxy", PROXY),
    ("renkei-server", SERVER),
    ("renkei", RENKEI),
];

/// In the order of the layers: each knows modules above it in this table only.
const PROXY: &[Rule] = &[
    rule(
        "identity",
        &[],
        "who talks to whom, with which certificates, is below everything",
    ),
    rule(
        "relay",
        &[],
        "bytes are carried in the same way whatever carries them",
    ),
    rule(
        "config",
        &[],
        "what is wanted is known before anything serves it",
    ),
    rule(
        "bandwidth",
        &[],
        "a limit is the same whatever it slows down",
    ),
    rule(
        "sockets",
        &["relay"],
        "a socket knows nothing of what passes it",
    ),
    rule(
        "context",
        &["bandwidth", "config", "identity", "relay"],
        "what every connection needs must not need one of its users",
    ),
    rule(
        "authorization",
        &["config", "context", "identity"],
        "a decision is the same for every way in",
    ),
    rule(
        "record",
        &["relay"],
        "TLS knows neither who its peer is nor what it carries",
    ),
    rule(
        "trunk",
        &["identity", "record", "relay", "sockets"],
        "a library: it knows neither Kafka nor admission, and not who opens streams",
    ),
    rule(
        "admission",
        &["config", "identity"],
        "places are given out in one place, by the limits and by who asks",
    ),
    rule(
        "wan",
        &["bandwidth", "record", "relay", "sockets", "trunk"],
        "a stream, whatever carries it",
    ),
    rule(
        "tls",
        &[
            "admission",
            "context",
            "identity",
            "record",
            "sockets",
            "trunk",
        ],
        "a handshake is the same for services, links and callers",
    ),
    rule(
        "sessions",
        &[
            "authorization",
            "context",
            "identity",
            "relay",
            "sockets",
            "wan",
        ],
        "a protocol does not know which side or listener a connection came from",
    ),
    rule(
        "local_caller",
        &[],
        "the kernel is asked about a socket, and nothing else",
    ),
    rule(
        "outbound",
        &[
            "admission",
            "authorization",
            "bandwidth",
            "context",
            "identity",
            "local_caller",
            "relay",
            "sessions",
            "sockets",
            "tls",
            "trunk",
            "wan",
        ],
        "the caller's side works without the callee's",
    ),
    rule(
        "inbound",
        &[
            "admission",
            "authorization",
            "config",
            "context",
            "identity",
            "relay",
            "sessions",
            "sockets",
            "tls",
            "trunk",
            "wan",
        ],
        "the callee's side works without the caller's, and without the listener",
    ),
    rule(
        "hub",
        &[
            "admission",
            "config",
            "context",
            "identity",
            "relay",
            "sockets",
            "tls",
            "trunk",
            "wan",
        ],
        "a link forwards bytes: it knows no service and no session",
    ),
    rule(
        "gateway",
        &[
            "admission",
            "config",
            "context",
            "hub",
            "identity",
            "inbound",
            "sockets",
            "tls",
        ],
        "it reads a server name and hands the connection on",
    ),
    rule("readiness", &["context"], "it looks at identities alone"),
    rule(
        "sweep",
        &[
            "authorization",
            "context",
            "hub",
            "identity",
            "readiness",
            "trunk",
        ],
        "it ends what others have opened",
    ),
    rule(
        "metrics",
        &["admission", "context", "trunk"],
        "it reads counters",
    ),
    rule(
        "status",
        &["context", "hub", "outbound", "trunk"],
        "it shows what is there",
    ),
    rule(
        "listeners",
        &["gateway", "hub", "inbound", "outbound", "sockets"],
        "it opens and closes what the parts serve",
    ),
    rule(
        "proxy",
        &[
            "admission",
            "authorization",
            "bandwidth",
            "config",
            "context",
            "gateway",
            "hub",
            "inbound",
            "listeners",
            "metrics",
            "outbound",
            "readiness",
            "record",
            "relay",
            "sockets",
            "status",
            "sweep",
            "trunk",
        ],
        "it puts the parts together",
    ),
];

const SERVER: &[Rule] = &[
    rule("time_source", &[], "time comes from one place"),
    rule("store", &[], "what is kept knows nothing of who keeps it"),
    rule(
        "keys",
        &["store"],
        "a private key is known by its name in the store",
    ),
    rule("endpoint", &[], "it serves a document, whatever made it"),
    rule("metrics", &["endpoint"], "counters are set by others"),
    rule(
        "bundles",
        &[],
        "the bundles as they are now, for all who ask",
    ),
    rule("fetch", &[], "one exchange of HTTP, whatever it is for"),
    rule(
        "web_client",
        &["endpoint"],
        "TLS by the web's PKI, whatever it is for",
    ),
    rule(
        "authority",
        &["keys", "store"],
        "a CA needs no peer and no network",
    ),
    rule("entries", &["store"], "what may be issued is in the store"),
    rule(
        "federation",
        &["endpoint", "fetch", "metrics", "time_source", "web_client"],
        "who is a member follows from the log alone",
    ),
    rule(
        "peers",
        &[
            "bundles",
            "endpoint",
            "federation",
            "fetch",
            "metrics",
            "store",
            "time_source",
            "web_client",
        ],
        "a peer's bundle needs nothing of this site's CA",
    ),
    rule(
        "nodes",
        &["entries", "store"],
        "which nodes there are is in the store, and what each may ask for follows from its ID",
    ),
    rule(
        "api",
        &[
            "authority",
            "bundles",
            "endpoint",
            "entries",
            "nodes",
            "store",
            "time_source",
        ],
        "it answers nodes from what the other parts keep",
    ),
    rule(
        "server",
        &[
            "api",
            "authority",
            "bundles",
            "endpoint",
            "entries",
            "federation",
            "keys",
            "metrics",
            "nodes",
            "peers",
            "store",
            "time_source",
        ],
        "it puts the parts together",
    ),
];

const RENKEI: &[Rule] = &[
    rule("allocator", &[], "memory is the process's"),
    rule(
        "arguments",
        &[],
        "values on the command line, for all commands",
    ),
    rule("output", &[], "tables and JSON, whatever is in them"),
    rule("load", &[], "files of a site, read for all commands"),
    rule("identity", &[], "where identities come from"),
    rule(
        "bundle_files",
        &["output"],
        "it reads files and knows no running site",
    ),
    rule("open_ports", &[], "it looks at addresses alone"),
    rule(
        "warnings",
        &["bundle_files", "open_ports"],
        "what an operator should know of a site",
    ),
    rule(
        "place",
        &["arguments", "load"],
        "where a running site is found",
    ),
    rule("site_client", &["place"], "what a running site is asked"),
    rule("traffic", &["output"], "it prints what the status has"),
    rule("links", &["output"], "it prints what the status has"),
    rule(
        "peer_identity",
        &["output"],
        "it prints what the status has",
    ),
    rule(
        "federation",
        &["arguments", "load", "output", "place", "site_client"],
        "its commands stand alone",
    ),
    rule(
        "node_args",
        &["arguments"],
        "words of the command line, no action",
    ),
    rule(
        "cli",
        &["arguments", "federation", "node_args"],
        "words of the command line, no action",
    ),
    rule(
        "nodes",
        &["arguments", "node_args", "output", "place", "site_client"],
        "it asks a running site, and prints what the status has",
    ),
    rule(
        "failure",
        &["arguments", "load", "output"],
        "it prints an error",
    ),
    rule(
        "render",
        &["arguments", "cli", "load", "open_ports", "output", "place"],
        "it reads a site file and starts nothing",
    ),
    rule(
        "process",
        &["allocator", "arguments", "place"],
        "the frame of a process is the same whatever roles it runs",
    ),
    rule(
        "running",
        &["identity", "load", "process", "warnings"],
        "a site while it runs",
    ),
    rule(
        "node",
        &["identity", "node_args", "place", "process"],
        "it starts the roles of a node, and reads no site file",
    ),
    rule(
        "up",
        &[
            "cli",
            "identity",
            "load",
            "node_args",
            "place",
            "process",
            "running",
            "warnings",
        ],
        "it starts the roles and waits",
    ),
    rule(
        "status",
        &[
            "arguments",
            "links",
            "nodes",
            "output",
            "peer_identity",
            "place",
            "site_client",
            "traffic",
        ],
        "a command asks the running site, and does not read its files",
    ),
    rule(
        "explain",
        &[
            "arguments",
            "cli",
            "links",
            "load",
            "output",
            "peer_identity",
            "place",
            "site_client",
            "status",
        ],
        "it compares the file with the running site",
    ),
    rule(
        "apply",
        &["arguments", "load", "output", "place", "site_client"],
        "it sends a file to the running site",
    ),
    rule(
        "bundle",
        &["arguments", "cli", "load", "output", "place", "site_client"],
        "it prints a bundle",
    ),
    rule(
        "check",
        &[
            "arguments",
            "bundle_files",
            "cli",
            "load",
            "output",
            "peer_identity",
            "place",
            "site_client",
            "warnings",
        ],
        "it reads files and starts nothing; of a running site it asks what it has seen",
    ),
    rule(
        "svid",
        &["arguments", "cli", "output"],
        "a workload's own command",
    ),
    rule(
        "demo",
        &["arguments", "cli", "output", "place", "site_client"],
        "it uses the program as a user does",
    ),
];
