//! What both ends of links show of themselves.

use std::sync::{Arc, Weak};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use renkei_api::status::{HubStatus, LinkStatus, RelayStatus};

use super::{Hub, HubLink, LinkState};

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

/// The link to this site's hub.
pub(crate) fn hub_status(link: &HubLink) -> HubStatus {
    HubStatus {
        hub: link.target.hub().to_owned(),
        gateway: link.target.gateway().map(ToString::to_string),
        link: status_of(&link.state),
    }
}

impl Hub {
    /// The links of the sites that are reached through this one.
    pub(crate) fn relay_status(&self) -> Vec<RelayStatus> {
        let all = self.relays.all();
        let status = all.iter().map(|relayed| RelayStatus {
            site: relayed.name.clone(),
            link: status_of(&relayed.state),
        });
        status.collect()
    }
}

/// What a process tells Prometheus about its links.
#[derive(Debug)]
pub(crate) struct HubMetrics(pub(crate) Weak<Hub>);

impl Collector for HubMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(hub) = self.0.upgrade() else {
            return Ok(());
        };
        let relayed = hub.relays.all();
        let relayed = relayed.iter().map(|one| ("site", one.state.clone()));
        let links: Vec<(&'static str, Arc<LinkState>)> = relayed
            .chain(hub.link.load_full().map(|state| ("hub", state)))
            .collect();
        let labels = |(role, state): &(&'static str, Arc<LinkState>)| -> Labels {
            [
                ("peer", state.name().to_owned()),
                ("role", (*role).to_owned()),
            ]
        };
        let help = "Whether the link to a hub, or of a site that is relayed for, carries bytes.";
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
