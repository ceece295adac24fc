//! What the mirrors of a federation's log have.

use miette::miette;
use renkei_federation::{Digest, TrustDomain, View};
use renkei_server::federation::{MirrorError, MirrorReader, anchors};
use renkei_site::{FederationFile, Mirror};
use time::OffsetDateTime;

use crate::provider;

/// What a mirror has, replayed from the beginning.
pub(super) async fn replay(file: &FederationFile, mirror: &Mirror) -> Result<View, MirrorError> {
    let nothing = View::new(anchors(file));
    let source = MirrorReader::new(mirror.clone(), &provider()).await?;
    let now = OffsetDateTime::now_utc();
    source
        .extend(&nothing, false, now, None)
        .await
        .map(|(view, _)| view)
}

/// The identity that is admitted under a name, by the first mirror that can be read.
pub(super) async fn admitted(file: &FederationFile, name: &TrustDomain) -> miette::Result<Digest> {
    let mut faults = Vec::new();
    for mirror in &file.mirrors {
        match replay(file, mirror).await {
            Ok(view) => {
                let word = view.state().admissions().get(name);
                return word
                    .map(|word| word.genesis)
                    .ok_or_else(|| miette!("{name} was never admitted"));
            }
            Err(error) => faults.push(format!("{mirror}: {error}")),
        }
    }
    Err(miette!(
        help = "give the site's identity after its trust domain",
        "no mirror can be read: {}",
        faults.join("; ")
    ))
}
