//! Those who try to get in while the pipeline runs. Each must be refused, at the right place and
//! for the right reason, and the site must say so.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use renkei_spiffe::{PrivateKey, SpiffeId, X509Svid, client_side};
use rustls_pki_types::ServerName;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{
    process::command,
    sites::{DemoSite, Sites},
};
use crate::{
    provider,
    site_client::{SiteClient, explain},
};

/// One who tries: by which name the report knows it, where it must be refused, and as what.
#[derive(Debug, Clone, Copy)]
struct Intruder {
    name: &'static str,
    title: &'static str,
    site: &'static str,
    reason: &'static str,
}

const FIFTH_SITE: Intruder = Intruder {
    name: "fifth_site",
    title: "a fifth site with its own CA",
    site: "hokkaido",
    reason: "unknown_trust_domain",
};
const OSAKA_TO_TOKYO: Intruder = Intruder {
    name: "osaka_to_tokyo",
    title: "Osaka calling Tokyo's service",
    site: "tokyo",
    reason: "not_allowed",
};
const PLAINTEXT: Intruder = Intruder {
    name: "plaintext",
    title: "a client without TLS",
    site: "hokkaido",
    reason: "plaintext",
};
const WRONG_CA: Intruder = Intruder {
    name: "wrong_ca",
    title: "the right name from the wrong CA",
    site: "hokkaido",
    reason: "untrusted_ca",
};
const OTHER_USER: Intruder = Intruder {
    name: "other_user",
    title: "another local user at Osaka's port",
    site: "osaka",
    reason: "other_user",
};
const EXPIRED: Intruder = Intruder {
    name: "expired",
    title: "an expired certificate",
    site: "hokkaido",
    reason: "expired",
};
const ALL: [Intruder; 6] = [
    FIFTH_SITE,
    OSAKA_TO_TOKYO,
    PLAINTEXT,
    WRONG_CA,
    OTHER_USER,
    EXPIRED,
];
/// How many there are.
pub(super) const INTRUDERS: usize = ALL.len();

/// How long a refusal may take to show in the site's status.
const TIMEOUT: Duration = Duration::from_secs(15);

/// One attempt and its end.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Attempt {
    pub(super) intruder: &'static str,
    /// What people read about it.
    pub(super) title: &'static str,
    /// Where it was refused.
    pub(super) site: &'static str,
    /// The reason that must be counted there.
    pub(super) reason: &'static str,
    /// Refusals of that reason counted during the attempt.
    pub(super) refused: u64,
    /// Bytes that the intruder got to read from behind the mesh.
    pub(super) leaked: usize,
    /// The site's own sentence; or why the attempt could not be made.
    pub(super) sentence: String,
    /// Whether it was made.
    pub(super) tried: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// For the right reason, with nothing let out.
    Refused,
    /// This user cannot make the attempt.
    NotTried,
    /// The mesh did not hold.
    NotRefused,
}

impl Attempt {
    fn of(intruder: Intruder) -> Self {
        Self {
            intruder: intruder.name,
            title: intruder.title,
            site: intruder.site,
            reason: intruder.reason,
            refused: 0,
            leaked: 0,
            sentence: String::new(),
            tried: true,
        }
    }

    /// One of each, as all of them should end.
    #[cfg(test)]
    pub(super) fn examples() -> [Self; INTRUDERS] {
        ALL.map(|intruder| Self {
            refused: 1,
            ..Self::of(intruder)
        })
    }

    pub(super) fn verdict(&self) -> Verdict {
        match (self.tried, self.refused > 0 && self.leaked == 0) {
            (false, _) => Verdict::NotTried,
            (true, true) => Verdict::Refused,
            (true, false) => Verdict::NotRefused,
        }
    }

    /// The verdict in words, and the site's sentence.
    pub(super) fn in_a_line(&self) -> String {
        let (title, site) = (self.title, self.site);
        match self.verdict() {
            Verdict::Refused => format!("{title}: refused at {site}: {}", self.sentence),
            Verdict::NotTried => format!("{title}: {}", self.sentence),
            Verdict::NotRefused => {
                format!("{title}: NOT REFUSED as {} at {site}", self.reason)
            }
        }
    }
}

/// What an intruder does: gives the number of bytes it got to read.
enum Trick<'a> {
    /// Speaks to a local listener, as the user who runs the demo.
    Local(SocketAddr),
    /// Speaks to a local listener, as the user `nobody`.
    OtherUser {
        python: &'a Path,
        address: SocketAddr,
    },
    /// Sends bytes without TLS to a gateway.
    Plaintext(SocketAddr),
    /// Speaks mutual TLS to a gateway with a certificate that must not count.
    Certificate {
        gateway: SocketAddr,
        svid: X509Svid,
        bundles: Arc<renkei_spiffe::BundleSet>,
    },
}

/// Tries everything, one after the other, and reports each attempt as it ends.
pub(super) async fn try_all(
    sites: &Sites,
    python: &Path,
    mut report: impl FnMut(Attempt),
) -> miette::Result<()> {
    let stolen = steal_svid(&sites.osaka).await?;
    let bundles = stolen.bundles.clone();
    // TLS of Hokkaido's broker ends on its node: the gateway passes it on.
    let (gateway, node) = (&*sites.hokkaido.state, &*sites.store.state);
    report(play(FIFTH_SITE, node, Trick::Local(sites.nagoya.outbound)).await?);
    let trick = Trick::Local(sites.osaka_to_tokyo);
    report(play(OSAKA_TO_TOKYO, &sites.tokyo.state, trick).await?);
    let trick = Trick::Plaintext(sites.hokkaido.gateway);
    report(play(PLAINTEXT, gateway, trick).await?);
    let trick = Trick::Certificate {
        gateway: sites.hokkaido.gateway,
        svid: forge("osaka.example", "collector")?,
        bundles: bundles.clone(),
    };
    report(play(WRONG_CA, node, trick).await?);
    report(if rustix::process::geteuid().is_root() {
        let address = sites.osaka.outbound;
        let trick = Trick::OtherUser { python, address };
        play(OTHER_USER, &sites.osaka.state, trick).await?
    } else {
        Attempt {
            sentence: "not tried: only root can act as another user".into(),
            tried: false,
            ..Attempt::of(OTHER_USER)
        }
    });
    let left = stolen.svid.not_after() - OffsetDateTime::now_utc();
    sleep(Duration::try_from(left).unwrap_or_default() + Duration::from_secs(2)).await;
    let trick = Trick::Certificate {
        gateway: sites.hokkaido.gateway,
        svid: stolen.svid,
        bundles,
    };
    report(play(EXPIRED, node, trick).await?);
    Ok(())
}

/// Counts the refusals before and after, at the process with that state folder.
async fn play(intruder: Intruder, state: &Path, trick: Trick<'_>) -> miette::Result<Attempt> {
    let mut attempt = Attempt::of(intruder);
    let site = SiteClient::new(state);
    let before = site.status().await.map_err(explain)?;
    let before = before.proxy.refused_for(attempt.reason);
    attempt.leaked = match trick {
        Trick::Local(address) => speak_plain(address, b"\0\0\0\x08\0\x12\0\0\0\0\0\x01").await,
        Trick::Plaintext(address) => speak_plain(address, b"GET / HTTP/1.0\r\n\r\n").await,
        Trick::OtherUser { python, address } => speak_as_nobody(python, address).await,
        Trick::Certificate {
            gateway,
            svid,
            bundles,
        } => speak_tls(gateway, &svid, bundles).await.unwrap_or(0),
    };
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let status = site.status().await.map_err(explain)?.proxy;
        attempt.refused = status.refused_for(attempt.reason) - before;
        if attempt.refused > 0 || Instant::now() > deadline {
            attempt.sentence = status
                .last_refusal(attempt.reason)
                .map(|refusal| refusal.sentence.clone())
                .unwrap_or_default();
            return Ok(attempt);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Sends and reads until the other side ends; gives the count of bytes read.
async fn speak_plain(address: SocketAddr, bytes: &[u8]) -> usize {
    let talk = async {
        let mut tcp = TcpStream::connect(address).await?;
        tcp.write_all(bytes).await?;
        let mut got = Vec::new();
        // A reset after some bytes still leaves those bytes read.
        let _ = tcp.read_to_end(&mut got).await;
        std::io::Result::Ok(got.len())
    };
    timeout(Duration::from_secs(5), talk)
        .await
        .map_or(0, |done| done.unwrap_or(0))
}

/// Asks the broker for its API versions over mutual TLS; gives the count of bytes read.
async fn speak_tls(
    gateway: SocketAddr,
    svid: &X509Svid,
    bundles: Arc<renkei_spiffe::BundleSet>,
) -> std::io::Result<usize> {
    let broker =
        SpiffeId::parse("spiffe://hokkaido.example/broker").map_err(std::io::Error::other)?;
    let side = client_side(&provider(), svid, bundles, Arc::new(broker), &[])
        .map_err(std::io::Error::other)?;
    let name = ServerName::try_from("broker.hokkaido.example").map_err(std::io::Error::other)?;
    let tcp = TcpStream::connect(gateway).await?;
    let talk = async {
        let mut tls = tokio_rustls::TlsConnector::from(side.config)
            .connect(name, tcp)
            .await?;
        tls.write_all(b"\0\0\0\x0a\0\x12\0\0\0\0\0\x01\xff\xff")
            .await?;
        tls.read(&mut [0; 64]).await
    };
    timeout(Duration::from_secs(5), talk).await.unwrap_or(Ok(0))
}

/// The same bytes as [`speak_plain`], from a process of the user `nobody`.
async fn speak_as_nobody(python: &Path, address: SocketAddr) -> usize {
    const PROGRAM: &str = "import socket, sys\n\
        s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)\n\
        s.settimeout(5)\n\
        try:\n    s.sendall(bytes.fromhex('000000080012000000000001')); print(len(s.recv(64)))\n\
        except OSError:\n    print(0)\n";
    let mut nobody = command(Path::new("setpriv"));
    nobody.args([
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "--",
    ]);
    nobody.arg(if python.starts_with("/root") {
        Path::new("/usr/bin/python3")
    } else {
        python
    });
    nobody.args([
        "-c",
        PROGRAM,
        &address.ip().to_string(),
        &address.port().to_string(),
    ]);
    let Ok(output) = nobody.output().await else {
        return 0;
    };
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .unwrap_or(0)
}

struct Stolen {
    svid: X509Svid,
    bundles: Arc<renkei_spiffe::BundleSet>,
}

/// A real SVID of Osaka's collector, fetched from Osaka's Workload API to be used after its end.
async fn steal_svid(osaka: &DemoSite) -> miette::Result<Stolen> {
    let socket = crate::place::workload_socket(&osaka.state);
    let update = renkei_agent::client::fetch(&format!("unix://{}", socket.display()), &provider())
        .await
        .map_err(|error| miette::miette!("no SVID from Osaka's Workload API: {error}"))?;
    let Some((_, svid)) = update.svids.first() else {
        return Err(miette::miette!("Osaka's Workload API gave no SVID"));
    };
    let copy = X509Svid::new(
        svid.chain().to_vec(),
        PrivateKey::from_pkcs8(svid.key().pkcs8().to_vec()),
    )
    .map_err(|error| miette::miette!("Osaka's SVID: {error}"))?;
    Ok(Stolen {
        svid: copy,
        bundles: update.bundles.clone(),
    })
}

/// A perfectly formed certificate of a name that its CA has no right to.
fn forge(trust_domain: &str, workload: &str) -> miette::Result<X509Svid> {
    let failed = |error: rcgen::Error| miette::miette!("no forged certificate: {error}");
    let uri =
        |text: String| -> Result<SanType, rcgen::Error> { Ok(SanType::URI(text.try_into()?)) };
    let now = OffsetDateTime::now_utc();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    ca.subject_alt_names = vec![uri(format!("spiffe://{trust_domain}")).map_err(failed)?];
    let issuer = KeyPair::generate()
        .and_then(|key| CertifiedIssuer::self_signed(ca, key))
        .map_err(failed)?;
    let mut leaf = CertificateParams::default();
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    leaf.subject_alt_names =
        vec![uri(format!("spiffe://{trust_domain}/{workload}")).map_err(failed)?];
    leaf.not_before = now - Duration::from_secs(10);
    leaf.not_after = now + Duration::from_secs(3_600);
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = leaf.signed_by(&key, &issuer).map_err(failed)?;
    X509Svid::new(
        vec![certificate.der().clone()],
        PrivateKey::from_pkcs8(key.serialize_der()),
    )
    .map_err(|error| miette::miette!("no forged certificate: {error}"))
}
