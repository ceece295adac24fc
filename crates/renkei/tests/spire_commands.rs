//! The real `spire-server` commands, led to a Renkei server and to a SPIRE server: for the same
//! steps both must print the same, but for keys, times and random IDs.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use lab::{
    SOON, Site, own_uid, run, said,
    spire::{Spire, SpireAgent},
};
use renkei_testkit::{free_address, program, wait_for};

/// Two servers of the trust domain `spire.example`.
struct Both {
    site: Site,
    spire: Spire,
    address: std::net::SocketAddr,
}

impl Both {
    fn start() -> Self {
        let mut site = Site::new("spire");
        let address = free_address();
        site.write(&format!(
            "server: {{listen: {address}, advertise: {address}}}\n"
        ));
        site.start();
        let spire = Spire::start_alone();
        Self {
            site,
            spire,
            address,
        }
    }

    fn renkei_socket(&self) -> PathBuf {
        self.site.state().join("server.sock")
    }

    /// What the command prints, which is the same for both.
    fn same(&self, words: &[&str]) -> String {
        let (ours, theirs) = self.outputs(words);
        let (ours_said, theirs_said) = (normalised(&ours), normalised(&theirs));
        assert_eq!(ours_said, theirs_said, "renkei, then spire: {words:?}");
        assert_eq!(ours.status.code(), theirs.status.code(), "{words:?}");
        ours_said
    }

    /// Both succeed, and print the same in both formats.
    fn shown(&self, words: &[&str]) -> String {
        let text = self.same(words);
        self.same(&[words, &["-output", "json"]].concat());
        text
    }

    /// Both refuse, each in its own words.
    fn refused(&self, words: &[&str]) -> String {
        let (ours, theirs) = self.outputs(words);
        assert_eq!(ours.status.code(), theirs.status.code(), "{words:?}");
        let code = |output: &Output| {
            let text = said(output);
            assert!(!output.status.success(), "{words:?}: {text}");
            let code = text.split("code = ").nth(1);
            let code = code.or_else(|| text.split("(code: ").nth(1));
            let rest = code.unwrap_or_else(|| panic!("no code in {text}"));
            let word = |letter: char| !letter.is_ascii_alphanumeric();
            rest.split(word).next().unwrap_or_default().to_owned()
        };
        assert_eq!(code(&ours), code(&theirs), "{words:?}");
        said(&ours)
    }

    fn outputs(&self, words: &[&str]) -> (Output, Output) {
        let ours = spire_server(&self.renkei_socket(), words);
        let theirs = spire_server(&self.spire.server_socket(), words);
        (ours, theirs)
    }
}

fn spire_server(socket: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(program("RENKEI_SPIRE_SERVER"));
    run(command.args(words).arg("-socketPath").arg(socket))
}

/// Without what differs from run to run.
fn normalised(output: &Output) -> String {
    let text = said(output);
    let lines = text.lines().map(|line| {
        let label = line.split(':').next().unwrap_or_default().trim();
        match label {
            "Expiration time" | "Serial number" | "\"x509svid_serial_number\"" => {
                format!("{label}: ...")
            }
            _ => line.to_owned(),
        }
    });
    // Keys and certificates are lines of base64 between two marks.
    let mut in_pem = false;
    let lines = lines.filter(|line| {
        let is_mark = line.starts_with("-----");
        in_pem = (in_pem && !is_mark) || line.starts_with("-----BEGIN");
        is_mark || !in_pem
    });
    let lines = lines.map(|line| match line.split_once("; expires \"") {
        Some((said, _)) => format!("{said}; expires ..."),
        None => line,
    });
    let text: Vec<String> = lines.collect();
    let mut text = without_uuids(&text.join("\n"));
    for key in [
        "created_at",
        "expires_at",
        "x509svid_expires_at",
        "x509svid_serial_number",
    ] {
        text = without_value(&text, key);
    }
    text
}

fn without_uuids(text: &str) -> String {
    let is_part = |letter: char| letter.is_ascii_hexdigit() || letter == '-';
    let mut clean = String::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let end = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
        let word = &rest[..end];
        if word.len() == 36 && word.matches('-').count() == 4 {
            clean.push_str("UUID");
            rest = &rest[end..];
        } else if end > 0 {
            clean.push_str(word);
            rest = &rest[end..];
        } else {
            clean.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    clean
}

/// JSON: `"key":"value"` loses its value.
fn without_value(text: &str, key: &str) -> String {
    let start = format!("\"{key}\":\"");
    let mut parts = text.split(&start);
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.split_once('"').map_or("", |(_, rest)| rest);
        clean.push_str(&format!("\"{key}\":\"\"{rest}"));
    }
    clean
}

const GROUP: &str = "spiffe://spire.example/group";
const ROBOT: &str = "spiffe://spire.example/robot";

#[test]
fn entries_are_made_shown_changed_and_deleted_as_at_spire() {
    let both = Both::start();
    both.same(&["healthcheck"]);
    let below = ["-parentID", GROUP];
    let of_group = |words: &[&'static str]| [words, &below[..]].concat();
    assert!(both.shown(&of_group(&["entry", "count"])).contains('0'));
    both.same(&of_group(&["entry", "show"]));

    let create = |more: &[&'static str]| {
        let words = [
            "entry",
            "create",
            "-spiffeID",
            ROBOT,
            "-selector",
            "unix:uid:1000",
        ];
        [&words[..], &below[..], more].concat()
    };
    let all = [
        "-entryID",
        "one",
        "-selector",
        "unix:gid:7",
        "-x509SVIDTTL",
        "60",
        "-dns",
        "robot.example",
        "-hint",
        "robot",
        "-downstream",
        "-entryExpiry",
        "4000000000",
    ];
    both.same(&create(&all));
    let again = both.same(&create(&all));
    assert!(again.contains("similar entry already exists"), "{again}");
    // The same ID with other selectors.
    both.same(&create(&["-entryID", "two"]));
    both.same(&create(&["-admin", "-selector", "k8s:ns:a"]));
    for words in [
        &["entry", "show", "-entryID", "one"][..],
        &[
            "entry",
            "show",
            "-spiffeID",
            ROBOT,
            "-selector",
            "unix:uid:1000",
            "-matchSelectorsOn",
            "exact",
        ],
        &["entry", "show", "-selector", "unix:gid:7", "-downstream"],
        &["entry", "show", "-hint", "robot"],
        &[
            "entry",
            "count",
            "-selector",
            "unix:uid:1000",
            "-matchSelectorsOn",
            "any",
        ],
        &["entry", "count", "-parentID", GROUP, "-downstream"],
        &[
            "entry",
            "count",
            "-selector",
            "unix:uid:1000",
            "-selector",
            "unix:gid:7",
            "-selector",
            "unix:x:1",
            "-matchSelectorsOn",
            "subset",
        ],
    ] {
        both.shown(words);
    }
    let change = [
        "entry",
        "update",
        "-entryID",
        "one",
        "-spiffeID",
        ROBOT,
        "-selector",
        "unix:uid:5",
    ];
    both.same(&[&change[..], &below[..]].concat());
    let changed = both.shown(&["entry", "show", "-entryID", "one"]);
    assert!(changed.contains("Revision         : 1"), "{changed}");
    both.same(&[
        "entry",
        "create",
        "-node",
        "-entryID",
        "alias",
        "-spiffeID",
        GROUP,
        "-selector",
        "a:b",
    ]);
    both.same(&["entry", "delete", "-entryID", "one"]);
    both.same(&["entry", "delete", "-entryID", "one"]);
    both.refused(&["entry", "show", "-entryID", "one"]);
    both.shown(&of_group(&["entry", "count"]));
}

#[test]
fn what_cannot_be_issued_is_refused_with_the_codes_of_spire() {
    let both = Both::start();
    let entry = |id: &'static str, parent: &'static str, more: &[&'static str]| {
        let words = [
            "entry",
            "create",
            "-spiffeID",
            id,
            "-parentID",
            parent,
            "-selector",
            "a:b",
        ];
        [&words[..], more].concat()
    };
    let other = "spiffe://other.example/robot";
    both.refused(&entry("spiffe://spire.example/spire/server", GROUP, &[]));
    both.refused(&entry(other, GROUP, &[]));
    both.refused(&entry(ROBOT, other, &[]));
    both.refused(&[
        "entry",
        "update",
        "-entryID",
        "none",
        "-spiffeID",
        ROBOT,
        "-parentID",
        GROUP,
        "-selector",
        "a:b",
    ]);
    // What would have no effect here is not taken.
    let socket = both.renkei_socket();
    for more in [&["-storeSVID"][..], &["-jwtSVIDTTL", "60"]] {
        let output = spire_server(&socket, &entry(ROBOT, GROUP, more));
        let text = said(&output);
        assert!(text.contains("does not support"), "{text}");
    }
    let named = spire_server(&socket, &entry(ROBOT, GROUP, &["-dns", "a b"]));
    assert!(
        said(&named).contains("invalid DNS name"),
        "{}",
        said(&named)
    );
    let own = spire_server(&socket, &["entry", "delete", "-entryID", "file.server"]);
    assert!(said(&own).contains("FailedPrecondition"), "{}", said(&own));
    let listed = said(&spire_server(
        &socket,
        &["entry", "show", "-entryID", "file.server"],
    ));
    assert!(
        listed.contains("spiffe://spire.example/renkei/server"),
        "{listed}"
    );
}

#[test]
fn agents_join_are_listed_banned_and_evicted_as_at_spire() {
    let mut both = Both::start();
    both.shown(&["agent", "list"]);
    both.shown(&["agent", "count"]);
    let generate = [
        "token",
        "generate",
        "-spiffeID",
        "spiffe://spire.example/node",
        "-ttl",
        "600",
    ];
    both.same(&generate);
    both.shown(&["entry", "show", "-spiffeID", "spiffe://spire.example/node"]);
    both.refused(&[
        "token",
        "generate",
        "-spiffeID",
        "spiffe://other.example/node",
    ]);

    let token = |socket: &Path| {
        let made = spire_server(socket, &[&generate[..], &["-output", "json"]].concat());
        let made: serde_json::Value = serde_json::from_slice(&made.stdout).expect("JSON");
        made["value"].as_str().expect("a token").to_owned()
    };
    let (ours, theirs) = (
        token(&both.renkei_socket()),
        token(&both.spire.server_socket()),
    );
    let agent = SpireAgent::new(&both.site, both.address);
    let _agent = agent.join(&ours);
    both.spire.start_agent_with(&theirs);
    wait_for("both agents have joined", SOON, || {
        let (ours, theirs) = both.outputs(&["agent", "count"]);
        let one = |output: &Output| said(output).contains("1 attested agent");
        (one(&ours) && one(&theirs)).then_some(())
    });
    let listed = both.shown(&["agent", "list"]);
    assert!(listed.contains("join_token"), "{listed}");
    both.shown(&[
        "agent",
        "count",
        "-attestationType",
        "join_token",
        "-canReattest",
        "false",
    ]);
    both.shown(&[
        "agent",
        "list",
        "-expiresBefore",
        "2001-01-01 00:00:00 +0000 +00",
    ]);
    both.shown(&["agent", "purge"]);

    // An entry below the alias is the agent's.
    let uid = own_uid();
    let entry = [
        "entry",
        "create",
        "-spiffeID",
        ROBOT,
        "-parentID",
        "spiffe://spire.example/node",
        "-selector",
        &uid,
    ];
    both.same(&entry);
    let svid = wait_for("an SVID of the entry", SOON, || agent.fetch().ok());
    assert!(svid.contains(ROBOT), "{svid}");

    let id = |token: &str| format!("spiffe://spire.example/spire/agent/join_token/{token}");
    let each = |words: [&str; 2]| {
        let one = |socket: &Path, token: &str| {
            let output = spire_server(socket, &[words[0], words[1], "-spiffeID", &id(token)]);
            assert!(output.status.success(), "{words:?}: {}", said(&output));
            normalised(&output)
        };
        let ours = one(&both.renkei_socket(), &ours);
        assert_eq!(ours, one(&both.spire.server_socket(), &theirs), "{words:?}");
    };
    each(["agent", "show"]);
    each(["agent", "ban"]);
    both.shown(&["agent", "list", "-banned", "true"]);
    each(["agent", "evict"]);
    both.shown(&["agent", "list"]);
    for verb in ["show", "ban", "evict"] {
        both.refused(&["agent", verb, "-spiffeID", &id("none")]);
    }
}

#[test]
fn bundles_are_shown_and_svids_minted_as_at_spire() {
    let both = Both::start();
    both.same(&["bundle", "show"]);
    both.shown(&["bundle", "count"]);
    both.same(&["bundle", "list"]);
    let mint = [
        "x509",
        "mint",
        "-spiffeID",
        ROBOT,
        "-ttl",
        "60s",
        "-dns",
        "robot.example",
    ];
    let minted = both.same(&mint);
    assert!(minted.contains("BEGIN CERTIFICATE"), "{minted}");
    let written = tempfile::tempdir().expect("folder");
    let folder = written.path().display().to_string();
    let output = spire_server(
        &both.renkei_socket(),
        &[&mint[..], &["-write", &folder]].concat(),
    );
    assert!(output.status.success(), "{}", said(&output));
    let pem = std::fs::read_to_string(written.path().join("svid.pem")).expect("an SVID");
    let der = pem::parse(pem).expect("PEM");
    let leaf = rustls_pki_types::CertificateDer::from(der.into_contents());
    let svid = renkei_spiffe::SvidCertificate::parse_leaf(&leaf).expect("an SVID");
    assert_eq!(svid.id.to_string(), ROBOT);
    both.refused(&["x509", "mint", "-spiffeID", "spiffe://other.example/robot"]);

    // What this server does not do is said so.
    let jwt = ["jwt", "mint", "-spiffeID", ROBOT, "-audience", "a"];
    let jwt = said(&spire_server(&both.renkei_socket(), &jwt));
    assert!(jwt.contains("Unimplemented"), "{jwt}");
}
