//! What both ends of links show of themselves.

use std::sync::{Arc, Weak};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use renkei_api::status::{GatewayLinkStatus, HubStatus, LinkStatus, NodeLinkStatus, RelayStatus};

use super::{Hub, HubLink, LinkEnd, LinkState, links::Linked};

type Labels = [(&'static str, String); 2];

fn status_of(link: &LinkState) -> LinkStatus {
    let condition = link.condition();
    LinkStatus {
        linked: condition.linked,
        since: condition.since,
        reason: condition.reason,
        open: link.open(),
        connections: link.connections(),
        bytes_sent: link.traffic.to_wan(),
        bytes_received: link.traffic.to_app(),
    }
}

/// The links that a process has dialled.
#[derive(Debug, Default)]
pub(crate) struct OwnLinks {
    /// To this site's hub.
    pub(crate) hub: Option<HubStatus>,
    /// To gateways of the own site.
    pub(crate) gateways: Vec<GatewayLinkStatus>,
}

/// The links that a process has dialled.
pub(crate) fn own_links(links: &[HubLink]) -> OwnLinks {
    let mut own = OwnLinks::default();
    for HubLink { target, state, .. } in links {
        let (link, far) = (status_of(state), target.far());
        let gateway = target.gateway().map(ToString::to_string);
        match target.is_hub() {
            true => {
                let hub = far.trust_domain().to_string();
                own.hub = Some(HubStatus { hub, gateway, link });
            }
            false => own.gateways.push(GatewayLinkStatus {
                id: far.clone(),
                gateway: gateway.unwrap_or_default(),
                link,
            }),
        }
    }
    own
}

impl Hub {
    /// The links of the sites and nodes that are reached through this process.
    pub(crate) fn accepted_links(&self) -> (Vec<RelayStatus>, Vec<NodeLinkStatus>) {
        let (mut sites, mut nodes) = (Vec::new(), Vec::new());
        for linked in self.links.all() {
            let link = status_of(&linked.state);
            match &linked.end {
                LinkEnd::Site(id) => sites.push(RelayStatus {
                    site: id.trust_domain().clone(),
                    link,
                }),
                LinkEnd::Node(id) => nodes.push(NodeLinkStatus {
                    node: id.clone(),
                    link,
                }),
            }
        }
        (sites, nodes)
    }

    /// Every link, with what its other end is for this process.
    fn by_role(&self) -> Vec<(&'static str, Arc<LinkState>)> {
        let role = |linked: &Linked| match linked.end {
            LinkEnd::Site(_) => "site",
            LinkEnd::Node(_) => "node",
        };
        let accepted = self.links.all().into_iter();
        let accepted = accepted.map(|linked| (role(&linked), linked.state.clone()));
        let own = self.own.load_full();
        let own = own.iter().map(|(target, state)| match target.is_hub() {
            true => ("hub", state.clone()),
            false => ("gateway", state.clone()),
        });
        accepted.chain(own).collect()
    }
}

/// The metrics of a process about its links.
#[derive(Debug)]
pub(crate) struct HubMetrics(pub(crate) Weak<Hub>);

impl Collector for HubMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(hub) = self.0.upgrade() else {
            return Ok(());
        };
        let links = hub.by_role();
        let labels = |(role, state): &(&'static str, Arc<LinkState>)| -> Labels {
            [
                ("peer", state.name().to_owned()),
                ("role", (*role).to_owned()),
            ]
        };
        let help =
            "Whether the link with a hub, a gateway, a relayed site or a node carries bytes.";
        let mut family =
            encoder.encode_descriptor("renkei_link_up", help, None, MetricType::Gauge)?;
        links.iter().try_for_each(|one| {
            let up = i64::from(one.1.condition().linked);
            ConstGauge::new(up).encode(family.encode_family(&labels(one))?)
        })?;
        let mut counter = |name, help, value: fn(&LinkState) -> u64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            links.iter().try_for_each(|one| {
                ConstCounter::new(value(&one.1)).encode(family.encode_family(&labels(one))?)
            })
        };
        let (sent, received) = ("renkei_link_sent_bytes", "renkei_link_received_bytes");
        counter(
            "renkei_link_connections",
            "Connections relayed.",
            LinkState::connections,
        )?;
        counter(sent, "Relayed bytes to the link's other end.", |state| {
            state.traffic.to_wan()
        })?;
        counter(
            received,
            "Relayed bytes from the link's other end.",
            |state| state.traffic.to_app(),
        )
    }
}
