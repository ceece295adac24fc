//! Two trust domains and a leaf of each, in files, for the proxies that take them from there.

use std::path::{Path, PathBuf};

use renkei_testkit::TestAuthority;
use renkei_wan::Side;

use crate::error::BenchError;

/// The files of one side.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) id: String,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Certificate and key in one file.
    pub(crate) both: PathBuf,
    /// The CA that issued it.
    pub(crate) authority: PathBuf,
}

/// The name of a side's trust domain, without its `.example`.
pub(crate) fn name(side: Side) -> &'static str {
    match side {
        Side::A => "near",
        Side::B => "far",
    }
}

impl Identity {
    /// A fresh CA and a leaf, written into `folder`.
    pub(crate) fn write(folder: &Path, side: Side) -> Result<Self, BenchError> {
        let name = name(side);
        let domain = format!("{name}.example");
        let authority = TestAuthority::new(&domain);
        let issued = authority.issue("/proxy");
        let put = |extension: &str, text: &str| {
            let path = folder.join(format!("{name}.{extension}"));
            std::fs::write(&path, text).map_err(BenchError::file(&path))?;
            Ok::<_, BenchError>(path)
        };
        let both = issued.certificate_pem.clone() + &issued.key_pem;
        Ok(Self {
            id: format!("spiffe://{domain}/proxy"),
            certificate: put("crt", &issued.certificate_pem)?,
            key: put("key", &issued.key_pem)?,
            both: put("pem", &both)?,
            authority: put("ca", &authority.certificate_pem())?,
        })
    }
}
