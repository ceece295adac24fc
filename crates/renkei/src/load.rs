//! Reading a site file together with the files it names, into everything a site runs by.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use renkei_proxy::{Policies, PolicyFault, compile_policies};
use renkei_runtime::files::{self, Budget};
use renkei_site::{Faults, FederationFile, Item, PolicySource, ProxyPart, Site};

/// A Rego file of more bytes than this is refused unread.
const MAX_POLICY_BYTES: usize = 1024 * 1024;

/// How long all the files of a site may take to be read, together.
const READ_LIMIT: Duration = Duration::from_secs(15);

/// What is left of the time for reading files.
struct ReadTime(Duration);

impl ReadTime {
    fn read(&mut self, budget: Budget, file: &Path, most: usize) -> io::Result<String> {
        if self.0.is_zero() {
            let message = format!(
                "other files of the site took the {} s that all of them may take",
                READ_LIMIT.as_secs()
            );
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        let (begun, owned) = (Instant::now(), file.to_owned());
        let read = files::run_within(self.0.min(files::LIMIT), budget, file, move || {
            files::read_file(files::open(&owned)?, most)
        });
        self.0 = self.0.saturating_sub(begun.elapsed());
        read.and_then(files::text)
    }
}

/// A site file without fault.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) site: Arc<Site>,
    /// The text of the policies, by the name of their service.
    pub(crate) sources: BTreeMap<String, PolicySource>,
    pub(crate) policies: Policies,
    pub(crate) config_lines: usize,
}

/// Why there is no site to run.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum LoadError {
    #[error("cannot read the site file {file}: {error}")]
    #[diagnostic(help("{}", .hint))]
    Unreadable {
        file: String,
        error: io::Error,
        hint: &'static str,
    },
    #[error("cannot read the federation file {file}: {error}")]
    #[diagnostic(help("ask the founder of the federation for it"))]
    NoFederation { file: String, error: io::Error },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Faulty(Faults),
}

/// Reads and checks the site file and every policy it names. All faults come at once.
pub(crate) fn load(file: &Path) -> Result<Loaded, LoadError> {
    let mut time = ReadTime(READ_LIMIT);
    let text = read(file, &mut time)?;
    let mut site = load_site_of(file, &text)?;
    // The same paths whether the file was named from here or, later, by its full path.
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    site.resolve_paths(whole.parent().unwrap_or(Path::new(".")));
    let mut faults = site.faults();
    let place = site.place(&Item::Federation);
    if let Some(federation) = &mut site.federation {
        match read_federation(&federation.path, &mut time) {
            Ok(file) => federation.file = Some(Arc::new(file)),
            // Its own faults, in its own text.
            Err(LoadError::Faulty(inner)) if faults.is_empty() => {
                return Err(LoadError::Faulty(inner));
            }
            Err(error) => {
                let hint = "ask the founder of the federation for the federation file; its path is \
                            relative to the site file";
                faults.push(place, error.to_string(), hint);
            }
        }
    }
    let mut sources = BTreeMap::new();
    for (name, service) in &site.services {
        let Some(file) = &service.policy else {
            continue;
        };
        match read_policy(file, &mut time) {
            Ok(source) => drop(sources.insert(name.clone(), source)),
            Err((message, hint)) => {
                faults.push(site.place(&Item::Policy(name.clone())), message, hint)
            }
        }
    }
    let everywhere = ProxyPart {
        services: site.services.clone(),
        policies: sources.clone(),
        ..site.proxy_part(0, BTreeMap::new())
    };
    let (policies, uncompiled) = compile_policies(&everywhere);
    for PolicyFault { service, error } in uncompiled {
        faults.push(
            site.place(&Item::Policy(service)),
            format!("the policy does not compile: {error}"),
            "package renkei.authz with `allow` and `deny` rules; docs/policy.md has an example",
        );
    }
    faults.or(()).map_err(LoadError::Faulty)?;
    let config_lines = Site::config_lines(&text);
    Ok(Loaded {
        site: Arc::new(site),
        sources,
        policies,
        config_lines,
    })
}

/// Reads and checks the site file alone, without the files that it names.
pub(crate) fn load_site(file: &Path) -> Result<Site, LoadError> {
    load_site_of(file, &read(file, &mut ReadTime(READ_LIMIT))?)
}

fn load_site_of(file: &Path, text: &str) -> Result<Site, LoadError> {
    renkei_site::parse(&file.display().to_string(), text).map_err(LoadError::Faulty)
}

fn read(file: &Path, time: &mut ReadTime) -> Result<String, LoadError> {
    time.read(Budget::SiteFile, file, renkei_site::MAX_TEXT)
        .map_err(|error| LoadError::Unreadable {
            file: file.display().to_string(),
            hint: match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::IsADirectory => {
                    "name the file on the command line, as in `renkei up site.yaml`"
                }
                io::ErrorKind::PermissionDenied => {
                    "the user that runs Renkei must be able to read it"
                }
                _ => "a site file is a text of a few lines, in UTF-8",
            },
            error,
        })
}

/// Reads and checks a federation file.
pub(crate) fn load_federation(file: &Path) -> Result<FederationFile, LoadError> {
    read_federation(file, &mut ReadTime(READ_LIMIT))
}

fn read_federation(file: &Path, time: &mut ReadTime) -> Result<FederationFile, LoadError> {
    let name = file.display().to_string();
    let text = time.read(Budget::Folder, file, renkei_site::MAX_TEXT);
    let text = text.map_err(|error| LoadError::NoFederation {
        file: name.clone(),
        error,
    })?;
    let mut read = renkei_site::parse_federation(&name, &text).map_err(LoadError::Faulty)?;
    read.resolve_paths(file.parent().unwrap_or(Path::new(".")));
    Ok(read)
}

/// The text of a policy, or a message with its hint.
fn read_policy(file: &Path, time: &mut ReadTime) -> Result<PolicySource, (String, String)> {
    let name = file.display().to_string();
    let read = time.read(Budget::Folder, file, MAX_POLICY_BYTES);
    let text = read.map_err(|error| {
        (
            format!("the policy {name} cannot be read: {error}"),
            "the path is relative to the site file".to_owned(),
        )
    })?;
    let text = text.into();
    Ok(PolicySource { name, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_that_had_no_time_left_to_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("echo.rego");
        std::fs::write(&policy, "package renkei.authz").unwrap();
        let (message, _) = read_policy(&policy, &mut ReadTime(Duration::ZERO)).unwrap_err();
        assert!(message.contains("echo.rego"), "{message}");
        assert!(message.contains("other files"), "{message}");
        let mut time = ReadTime(READ_LIMIT);
        time.read(Budget::Folder, &policy, 100).unwrap();
        assert!(time.0 < READ_LIMIT);
    }

    fn site_with_policy(rego: Option<&str>) -> Result<Loaded, LoadError> {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("site.yaml");
        let text = "site: tokyo\ntrust_domain: tokyo.example\n\
                    gateway: {listen: 127.0.0.1:8443, advertise: 127.0.0.1:8443}\n\
                    services:\n  mdx: {backends: [127.0.0.1:9092], policy: mdx.rego}\n";
        std::fs::write(&file, text).expect("site file");
        if let Some(rego) = rego {
            std::fs::write(folder.path().join("mdx.rego"), rego).expect("policy");
        }
        load(&file)
    }

    #[test]
    fn a_policy_is_found_beside_the_site_file() {
        let loaded = site_with_policy(Some(
            "package renkei.authz\nimport rego.v1\nallow if true\n",
        ))
        .expect("loaded");
        assert!(loaded.policies.contains_key("mdx"));
        assert_eq!(loaded.config_lines, 5);
    }

    #[test]
    fn rules_and_requests_have_paths_of_one_form() {
        let accepted = |path: &str| {
            let rule = format!("GET {path}").replace('\'', "''");
            let text = format!(
                "site: a\ntrust_domain: a.example\ngateway: {{listen: 127.0.0.1:8443}}\n\
                 services:\n  s: {{protocol: http, backends: [127.0.0.1:80], policy: p, \
                 methods: {{w: ['{rule}']}}}}\n"
            );
            renkei_site::parse("a", &text).is_ok()
        };
        let plain = (b'!'..=b'~').map(|byte| format!("/x{}y", char::from(byte)));
        let encoded = (0..=255_u8).flat_map(|b| [format!("/x%{b:02X}y"), format!("/x%{b:02x}y")]);
        let segments = ["/", "/a/", "//", "/.", "/..", "/...", "/a/./b", "/%2541"];
        let paths = plain.chain(encoded).chain(segments.map(str::to_owned));
        for path in paths.filter(|path| !path.contains('*')) {
            let form = renkei_access::HttpPath::parse(&path);
            let fits = form.is_ok_and(|form| form.as_str() == path);
            // The rest of a target is no path.
            let fits = fits && !path.contains(['?', '#']);
            assert_eq!(accepted(&path), fits, "{path}");
        }
    }

    #[test]
    fn a_missing_or_faulty_policy_is_a_fault_of_the_site_file_at_its_place() {
        for rego in [None, Some("package renkei.authz\nallow if {")] {
            match site_with_policy(rego) {
                Err(LoadError::Faulty(faults)) => {
                    assert!(
                        faults.to_lines().contains("site.yaml:5:"),
                        "{}",
                        faults.to_lines()
                    );
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
