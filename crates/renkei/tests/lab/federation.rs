//! A federation of sites as processes, with its registry.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use renkei_federation::{
    SignedCheckpoint,
    log::{Tree, bundle_path, read_bundle},
};
use renkei_server::federation::read_key;
use renkei_testkit::{Child, free_address, wait_for};
use serde_json::Value;
use tempfile::TempDir;

use super::{SOON, Site, echo, own_uid, program, run, said};

/// What crosses from statement to statement takes a few rounds of a few seconds.
pub(crate) const ROUNDS: Duration = Duration::from_secs(90);

/// A registry, its registrar, and the file that every member has.
pub(crate) struct Founded {
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) registry: Option<Child>,
    /// Which release runs the registry and the registrar's commands.
    program: PathBuf,
}

impl Founded {
    /// Founds a federation whose witnesses are these sites, and admits them. The registry is of a
    /// certain release.
    pub(crate) fn by(sites: &[&Site], release: &Path) -> Self {
        let founded = Self {
            folder: TempDir::with_prefix("renkei-test-").expect("folder"),
            address: free_address(),
            registry: None,
            program: release.to_owned(),
        };
        let joined: Vec<Value> = sites.iter().map(|site| join(site)).collect();
        let mut init = founded.command();
        init.args(["federation", "init"]).arg(founded.file());
        init.args([
            "--name",
            "intercloud",
            "--origin",
            "federation.example/intercloud",
        ]);
        init.arg("--mirror")
            .arg(format!("http://{}", founded.address));
        init.arg("--keys").arg(founded.folder.path());
        for (site, joined) in sites.iter().zip(&joined) {
            let key = joined["witness_key"].as_str().expect("key");
            init.arg("--witness")
                .arg(format!("{}.example={key}", site.name));
        }
        let done = run(&mut init);
        assert!(done.status.success(), "{}", said(&done));
        let mut founded = founded;
        founded.serve("log");
        for (site, joined) in sites.iter().zip(&joined) {
            founded.admit(site, joined);
        }
        founded
    }

    fn command(&self) -> Command {
        program(&self.program)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.path("intercloud.yaml")
    }

    /// Runs the registry on one of its folders.
    pub(crate) fn serve(&mut self, folder: &str) {
        self.serve_with(folder, &[]);
    }

    /// The same with more options.
    pub(crate) fn serve_with(&mut self, folder: &str, options: &[&str]) {
        self.registry = None;
        let mut registry = self.command();
        registry.arg("registry").arg(self.file());
        registry.arg("--key").arg(self.path("log.pem"));
        registry.arg("--folder").arg(self.path(folder));
        registry.args(["--listen", &self.address.to_string(), "--interval", "2s"]);
        registry.args(options);
        let child = Child::start("registry", &mut registry);
        wait_for("the registry listens", SOON, || {
            std::net::TcpStream::connect(self.address).ok()
        });
        self.registry = Some(child);
    }

    pub(crate) fn registrar(&self, verb: &str, site: &Site, more: &[&str]) {
        let mut command = self.command();
        command.args(["federation", verb]).arg(self.file());
        command.arg(format!("{}.example", site.name)).args(more);
        command.arg("--key").arg(self.path("registrar.pem"));
        let done = run(&mut command);
        assert!(done.status.success(), "{}", said(&done));
    }

    pub(crate) fn admit(&self, site: &Site, joined: &Value) {
        self.registrar(
            "admit",
            site,
            &[joined["identity"].as_str().expect("identity")],
        );
    }

    /// A site file's line.
    pub(crate) fn line(&self) -> String {
        format!("federation: {}\n", self.file().display())
    }

    /// A copy of the registry's folder as it is now.
    pub(crate) fn copy(&self, to: &str) {
        copy_tree(&self.path("log"), &self.path(to));
    }

    /// In a copy of the log, what the registry's operator adds or changes.
    pub(crate) fn tamper(&self, folder: &str, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
        let folder = self.path(folder);
        let note = std::fs::read_to_string(folder.join("pending")).expect("pending");
        let size: u64 = note.lines().nth(1).expect("size").parse().expect("size");
        let bundle = std::fs::read(folder.join(bundle_path(0, size))).expect("entries");
        let entries = read_bundle(&bundle).expect("entries");
        let mut entries: Vec<Vec<u8>> = entries.into_iter().map(<[u8]>::to_vec).collect();
        change(&mut entries);
        let mut tree = Tree::default();
        assert!(entries.iter().all(|entry| tree.append(entry)));
        for file in tree.take_files() {
            let path = folder.join(&file.path);
            std::fs::create_dir_all(path.parent().expect("folder")).expect("folder");
            std::fs::write(path, file.bytes).expect("file");
        }
        let key = read_key(&self.path("log.pem")).expect("key");
        let origin = "federation.example/intercloud";
        let checkpoint = SignedCheckpoint::sign(origin, tree.root(), &key);
        std::fs::write(folder.join("pending"), checkpoint.to_text()).expect("pending");
        let _ = std::fs::remove_file(folder.join("checkpoint"));
    }
}

pub(crate) fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("folder");
    for entry in std::fs::read_dir(from).expect("folder") {
        let entry = entry.expect("entry");
        let to = to.join(entry.file_name());
        match entry.file_type().expect("type").is_dir() {
            true => copy_tree(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).expect("copied")),
        }
    }
}

pub(crate) fn join(site: &Site) -> Value {
    let keys = site.path("root");
    let keys = keys.to_str().expect("UTF-8");
    let words = [
        "federation",
        "join",
        "--root-keys",
        keys,
        "--output",
        "json",
    ];
    let done = run(site.command(&words));
    assert!(done.status.success(), "{}", said(&done));
    serde_json::from_slice(&done.stdout).expect("JSON")
}

pub(crate) fn federation(site: &Site) -> Value {
    site.status()["server"]["federation"].clone()
}

pub(crate) fn member(site: &Site, name: &str) -> Option<Value> {
    let members = federation(site)["members"].as_array().cloned()?;
    members
        .into_iter()
        .find(|member| member["trust_domain"] == name)
}

/// Waits until `site` counts each of these as members.
pub(crate) fn wait_counts(site: &Site, names: &[&str]) {
    wait_for(&format!("{} counts {names:?}", site.name), ROUNDS, || {
        let counts = |name: &&str| member(site, name).is_some_and(|m| m["counts"] == true);
        names.iter().all(counts).then_some(())
    });
}

pub(crate) fn callee(founded: &Founded, backend: SocketAddr) -> String {
    format!(
        "{}services:\n  echo: {{backends: [{backend}], allow: [osaka.example/collector]}}\n",
        founded.line()
    )
}

pub(crate) fn caller(founded: &Founded, local: SocketAddr) -> String {
    format!(
        "{}workloads:\n  collector: {{selectors: [{}], uses: {{hokkaido.example/echo: {local}}}}}\n",
        founded.line(),
        own_uid()
    )
}

pub(crate) const THREE: [&str; 3] = ["hokkaido.example", "osaka.example", "kyushu.example"];

/// Three sites that know nothing of one another but the federation file. Osaka's collector calls
/// Hokkaido's echo at the address returned.
pub(crate) fn three_sites() -> (Founded, [Site; 3], SocketAddr) {
    three_sites_with("{x509_svid: 2m")
}

/// The same with other lifetimes at Hokkaido.
pub(crate) fn three_sites_with(lifetimes: &str) -> (Founded, [Site; 3], SocketAddr) {
    let sites = ["hokkaido", "osaka", "kyushu"].map(Site::new);
    let release = sites[0].program.clone();
    three_sites_of(sites, &release, lifetimes)
}

/// The same with sites of these names, and a certain release for the registry.
pub(crate) fn three_sites_of(
    mut sites: [Site; 3],
    registry: &Path,
    lifetimes: &str,
) -> (Founded, [Site; 3], SocketAddr) {
    let founded = Founded::by(&sites.each_ref(), registry);
    let local = free_address();
    sites[0].write(&callee(&founded, echo()));
    let text = std::fs::read_to_string(sites[0].file()).expect("site file");
    let text = text.replace("{x509_svid: 2m", lifetimes);
    std::fs::write(sites[0].file(), text).expect("site file");
    sites[1].write(&caller(&founded, local));
    sites[2].write(&founded.line());
    sites.iter_mut().for_each(Site::start);
    for site in &sites {
        wait_counts(site, &THREE);
    }
    (founded, sites, local)
}
