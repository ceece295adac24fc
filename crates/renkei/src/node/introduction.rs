//! How a machine becomes known to the server that it joins: by a token of Renkei, or by a join token
//! and the bundle of a SPIRE server.

use std::path::Path;

use miette::{IntoDiagnostic, WrapErr, miette};
use renkei_agent::server_client::{JoinError, JoinToken, Joined, join, join_spire};
use renkei_api::node::NodeToken;
use renkei_runtime::files;
use renkei_site::HostPort;
use renkei_spiffe::{Bundle, MAX_DOCUMENT_BYTES, TrustDomain};
use rustls_pki_types::CertificateDer;

use crate::{
    node_args::{Join, JoinSpire},
    provider,
};

/// What a machine has to join with.
pub(super) enum Introduction {
    Renkei {
        server: HostPort,
        token: NodeToken,
    },
    Spire {
        server: HostPort,
        token: JoinToken,
        bundle: Bundle,
    },
}

impl Introduction {
    pub(super) fn new(args: &Join) -> Self {
        Self::Renkei {
            server: args.server.clone(),
            token: args.token.clone(),
        }
    }

    /// Reads the bundle.
    pub(super) fn to_spire(args: &JoinSpire) -> miette::Result<Self> {
        Ok(Self::Spire {
            server: args.server.clone(),
            token: args.token.clone(),
            bundle: read_bundle(&args.trust_bundle, &args.trust_domain)?,
        })
    }

    pub(super) fn server(&self) -> &HostPort {
        match self {
            Self::Renkei { server, .. } | Self::Spire { server, .. } => server,
        }
    }

    pub(super) fn trust_domain(&self) -> &TrustDomain {
        match self {
            Self::Renkei { token, .. } => &token.trust_domain,
            Self::Spire { bundle, .. } => &bundle.trust_domain,
        }
    }

    /// Joins. The token is used up by it.
    pub(super) async fn join(&self) -> Result<Joined, JoinError> {
        let provider = provider();
        match self {
            Self::Renkei { server, token } => join(server, token, &provider).await,
            Self::Spire {
                server,
                token,
                bundle,
            } => join_spire(server, bundle, token, &provider).await,
        }
    }
}

/// PEM, as `spire-server bundle show` prints it, or a SPIFFE bundle document.
fn read_bundle(file: &Path, trust_domain: &TrustDomain) -> miette::Result<Bundle> {
    let at = || format!("--trust-bundle {}", file.display());
    let read = files::read(file, MAX_DOCUMENT_BYTES);
    let text = read.into_diagnostic().wrap_err_with(at)?;
    if text.trim_ascii_start().starts_with(b"{") {
        let bundle = Bundle::parse_document(trust_domain.clone(), &text);
        return bundle.into_diagnostic().wrap_err_with(at);
    }
    let blocks = pem::parse_many(&text).into_diagnostic().wrap_err_with(at)?;
    let certificates = blocks
        .into_iter()
        .filter(|block| block.tag() == "CERTIFICATE");
    let authorities: Vec<_> = certificates
        .map(|block| CertificateDer::from(block.into_contents()))
        .collect();
    match authorities.is_empty() {
        false => Ok(Bundle {
            x509_authorities: authorities,
            ..Bundle::empty(trust_domain.clone())
        }),
        true => Err(miette!(
            help = "write the bundle with `spire-server bundle show >bundle.pem`",
            "{} has neither a certificate in PEM nor a bundle document",
            at()
        )),
    }
}
