//! The site files of the demo: the paper's testbed, and a fifth site that is no peer of any.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use renkei_site::Site;

/// What the nodes are to the people who read the result.
pub(super) const SERVER_NODE: &str = "server and gateway";
const BROKER_NODE: &str = "node without an inbound port";
const FORWARDER_NODE: &str = "node without a route outside";
const FORWARDER_IP: &str = "127.0.0.31";

/// One site of the demo: its file, its state, its addresses.
#[derive(Debug, Clone)]
pub(super) struct DemoSite {
    pub(super) name: &'static str,
    pub(super) file: PathBuf,
    pub(super) state: PathBuf,
    pub(super) gateway: SocketAddr,
    /// The local listener through which this site's program reaches another site.
    pub(super) outbound: SocketAddr,
    /// The loopback address of its own.
    pub(super) ip: &'static str,
}

/// A machine of Hokkaido other than that of its server, which is its gateway as well.
#[derive(Debug, Clone)]
pub(super) struct DemoNode {
    pub(super) name: &'static str,
    /// What it is to the people who read the result.
    pub(super) role: &'static str,
    pub(super) state: PathBuf,
    /// The loopback address of its own.
    pub(super) ip: &'static str,
}

/// The paper's four sites, north to south, and the uninvited fifth.
#[derive(Debug)]
pub(super) struct Sites {
    pub(super) hokkaido: DemoSite,
    /// Where nodes of Hokkaido come to its server.
    pub(super) hokkaido_server: SocketAddr,
    /// The node of Hokkaido's broker.
    pub(super) store: DemoNode,
    /// The node of Hokkaido's forwarder, which has no route to other sites.
    pub(super) compute: DemoNode,
    /// The local listener through which the forwarder reads Hokkaido's own broker.
    pub(super) forwarder_source: SocketAddr,
    /// The one through which it writes to Tokyo's.
    pub(super) forwarder_target: SocketAddr,
    pub(super) tokyo: DemoSite,
    pub(super) osaka: DemoSite,
    pub(super) kyushu: DemoSite,
    pub(super) nagoya: DemoSite,
    /// Osaka's local listener for Tokyo's service, which Tokyo does not allow it.
    pub(super) osaka_to_tokyo: SocketAddr,
}

/// What the site files need to know of the world.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) hokkaido_broker: &'a str,
    pub(super) tokyo_broker: &'a str,
    pub(super) svid_life: Duration,
    pub(super) uid: u32,
    pub(super) pins: &'a Pins,
}

/// What each member's operator hands to the others, by the name of the site.
pub(super) type Pins = BTreeMap<&'static str, String>;

impl Sites {
    /// Chooses free addresses; writes nothing yet.
    pub(super) fn plan(folder: &Path) -> io::Result<Self> {
        let site = |name, ip| DemoSite::plan(folder, name, ip);
        let node = |name, role, ip| DemoNode {
            name,
            role,
            state: folder.join(format!("hokkaido-{name}")),
            ip,
        };
        Ok(Self {
            hokkaido: site("hokkaido", "127.0.0.11")?,
            hokkaido_server: free_address("127.0.0.11")?,
            store: node("store", BROKER_NODE, "127.0.0.21"),
            compute: node("compute", FORWARDER_NODE, FORWARDER_IP),
            forwarder_source: free_address(FORWARDER_IP)?,
            forwarder_target: free_address(FORWARDER_IP)?,
            tokyo: site("tokyo", "127.0.0.12")?,
            osaka: site("osaka", "127.0.0.13")?,
            kyushu: site("kyushu", "127.0.0.14")?,
            nagoya: site("nagoya", "127.0.0.15")?,
            osaka_to_tokyo: free_address("127.0.0.13")?,
        })
    }

    /// The four sites of the mesh.
    pub(super) fn members(&self) -> [&DemoSite; 4] {
        [&self.hokkaido, &self.tokyo, &self.osaka, &self.kyushu]
    }

    /// The nodes of Hokkaido without its server.
    pub(super) fn nodes(&self) -> [&DemoNode; 2] {
        [&self.store, &self.compute]
    }

    /// Everything of the mesh that has a status: the site it belongs to, and its state folder.
    pub(super) fn processes(&self) -> Vec<(&'static str, &Path)> {
        let nodes = self.nodes().map(|node| ("hokkaido", &*node.state));
        let mut processes = vec![("hokkaido", &*self.hokkaido.state)];
        processes.extend(nodes);
        let others = [&self.tokyo, &self.osaka, &self.kyushu];
        processes.extend(others.map(|site| (site.name, &*site.state)));
        processes
    }

    /// A member by its name.
    pub(super) fn member(&self, name: &str) -> Option<&DemoSite> {
        self.members().into_iter().find(|site| site.name == name)
    }

    /// Writes the members' files without peers: a site has its identity before it knows others.
    pub(super) fn write_heads(&self, svid_life: Duration) -> io::Result<()> {
        let mut members = self.members().into_iter();
        members.try_for_each(|site| std::fs::write(&site.file, site.head(svid_life)))
    }

    /// Writes the five site files; gives the lines of the four that are neither empty nor
    /// comments.
    pub(super) fn write(&self, around: &Surroundings<'_>) -> io::Result<usize> {
        let mut lines = 0;
        for (site, text) in [
            (&self.hokkaido, self.hokkaido_file(around)),
            (&self.tokyo, self.tokyo_file(around)),
            (&self.osaka, self.osaka_file(around)),
            (&self.kyushu, self.kyushu_file(around)),
        ] {
            lines += Site::config_lines(&text);
            std::fs::write(&site.file, text)?;
        }
        std::fs::write(&self.nagoya.file, self.nagoya_file(around))?;
        Ok(lines)
    }

    fn hokkaido_file(&self, around: &Surroundings<'_>) -> String {
        format!(
            "{head}server: {{listen: {server}, advertise: {server}}}\n\
             nodes: {{{store}: {{}}, {compute}: {{via: gateway}}}}\n\
             peers:\n{tokyo}{osaka}{kyushu}services:\n  broker: {{on: [{store}], protocol: kafka, \
             backends: [{broker}], allow: [osaka.example/collector, kyushu.example/collector, \
             forwarder]}}\n\
             workloads:\n  forwarder: {{on: [{compute}], selectors: [unix:uid:{uid}], uses: \
             {{broker: {source}, tokyo.example/mdx: {outbound}}}}}\n",
            head = self.hokkaido.head(around.svid_life),
            server = self.hokkaido_server,
            store = self.store.name,
            compute = self.compute.name,
            source = self.forwarder_source,
            tokyo = self.tokyo.peer(around),
            osaka = self.osaka.peer(around),
            kyushu = self.kyushu.peer(around),
            broker = around.hokkaido_broker,
            uid = around.uid,
            outbound = self.forwarder_target,
        )
    }

    fn tokyo_file(&self, around: &Surroundings<'_>) -> String {
        format!(
            "{head}peers:\n{hokkaido}{osaka}services:\n  mdx: {{protocol: kafka, backends: \
             [{broker}], allow: [hokkaido.example/forwarder]}}\n",
            head = self.tokyo.head(around.svid_life),
            hokkaido = self.hokkaido.peer(around),
            osaka = self.osaka.peer(around),
            broker = around.tokyo_broker,
        )
    }

    fn osaka_file(&self, around: &Surroundings<'_>) -> String {
        format!(
            "{head}peers:\n{hokkaido}{tokyo}workloads:\n  collector: {{selectors: \
             [unix:uid:{uid}], uses: {{hokkaido.example/broker: {broker}, \
             tokyo.example/mdx: {mdx}}}}}\n",
            head = self.osaka.head(around.svid_life),
            hokkaido = self.hokkaido.peer(around),
            tokyo = self.tokyo.peer(around),
            uid = around.uid,
            broker = self.osaka.outbound,
            mdx = self.osaka_to_tokyo,
        )
    }

    fn kyushu_file(&self, around: &Surroundings<'_>) -> String {
        self.source_file(&self.kyushu, "collector", around)
    }

    fn nagoya_file(&self, around: &Surroundings<'_>) -> String {
        self.source_file(&self.nagoya, "intruder", around)
    }

    fn source_file(&self, site: &DemoSite, workload: &str, around: &Surroundings<'_>) -> String {
        format!(
            "{head}peers:\n{hokkaido}workloads:\n  {workload}: {{selectors: [unix:uid:{uid}], \
             uses: {{hokkaido.example/broker: {outbound}}}}}\n",
            head = site.head(around.svid_life),
            hokkaido = self.hokkaido.peer(around),
            uid = around.uid,
            outbound = site.outbound,
        )
    }
}

impl DemoSite {
    fn plan(folder: &Path, name: &'static str, ip: &'static str) -> io::Result<Self> {
        Ok(Self {
            name,
            file: folder.join(format!("{name}.yaml")),
            state: folder.join(name),
            gateway: free_address(ip)?,
            outbound: free_address(ip)?,
            ip,
        })
    }

    fn head(&self, svid_life: Duration) -> String {
        let (name, gateway) = (self.name, self.gateway);
        let life = svid_life.as_secs();
        format!(
            "site: {name}\ntrust_domain: {name}.example\ngateway: {{listen: {gateway}, advertise: \
             {gateway}}}\nlifetimes: {{x509_svid: {life}s, bundle_refresh: 2s}}\n"
        )
    }

    /// The line that other sites write under their peers.
    fn peer(&self, around: &Surroundings<'_>) -> String {
        let (name, gateway) = (self.name, self.gateway);
        let pin = around.pins.get(name).map_or("", String::as_str);
        format!("  {name}.example: {{gateway: {gateway}, identity: {pin}}}\n")
    }
}

/// A free loopback address that stays free: a connection left in TIME_WAIT keeps the kernel from
/// giving the port to others, while a listener that asks for it gets it.
pub(super) fn free_address(ip: &str) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((ip, 0))?;
    let address = listener.local_addr()?;
    let mut client = TcpStream::connect(address)?;
    drop(listener.accept()?);
    client.read_to_end(&mut Vec::new())?;
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_site_files_have_no_fault_and_at_most_40_lines() {
        let folder = tempfile::tempdir().expect("folder");
        let sites = Sites::plan(folder.path()).expect("addresses");
        let pin = |site: &DemoSite| (site.name, "6d".repeat(32));
        let around = Surroundings {
            pins: &sites.members().into_iter().map(pin).collect(),
            hokkaido_broker: "127.0.0.11:9092",
            tokyo_broker: "127.0.0.12:9092",
            svid_life: Duration::from_secs(15),
            uid: 1000,
        };
        let lines = sites.write(&around).expect("written");
        assert!(lines <= 40, "{lines} lines");
        for site in sites.members().into_iter().chain([&sites.nagoya]) {
            let text = std::fs::read_to_string(&site.file).expect("site file");
            let parsed = renkei_site::parse(site.name, &text);
            assert!(parsed.is_ok(), "{}: {:?}", site.name, parsed.err());
        }
    }
}
