//! What both ends of links show of themselves.

use std::sync::{Arc, Weak};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use renkei_api::status::{HubStatus, LinkStatus, RelayStatus};

use super::{Board, Link};
use crate::shared::Shared;

type Labels = [(&'static str, String); 2];

fn link(board: &Board) -> LinkStatus {
    let state = board.state();
    LinkStatus {
        linked: state.linked,
        since: state.since,
        reason: state.reason,
        open: board.open(),
        connections: board.connections(),
        bytes_sent: board.traffic.to_wan(),
        bytes_received: board.traffic.to_app(),
    }
}

/// The link to this site's hub.
pub(crate) fn hub(to: &Link) -> HubStatus {
    HubStatus {
        hub: to.target.hub().to_owned(),
        gateway: to.target.gateway().map(ToString::to_string),
        link: link(&to.board),
    }
}

/// The links of the sites that are reached through this one.
pub(crate) fn relays(shared: &Shared) -> Vec<RelayStatus> {
    let all = shared.relays.all();
    let status = all.iter().map(|relayed| RelayStatus {
        site: relayed.name.clone(),
        link: link(&relayed.board),
    });
    status.collect()
}

/// What a process tells Prometheus about its links.
#[derive(Debug)]
pub(crate) struct HubMetrics(pub(crate) Weak<Shared>);

impl Collector for HubMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(shared) = self.0.upgrade() else {
            return Ok(());
        };
        let relayed = shared.relays.all();
        let relayed = relayed.iter().map(|one| ("site", one.board.clone()));
        let boards: Vec<(&'static str, Arc<Board>)> = relayed
            .chain(shared.link.load_full().map(|board| ("hub", board)))
            .collect();
        let labels = |(role, board): &(&'static str, Arc<Board>)| -> Labels {
            [
                ("peer", board.name().to_owned()),
                ("role", (*role).to_owned()),
            ]
        };
        let help = "Whether the link to a hub, or of a site that is relayed for, carries bytes.";
        let mut family =
            encoder.encode_descriptor("renkei_link_up", help, None, MetricType::Gauge)?;
        boards.iter().try_for_each(|one| {
            let up = i64::from(one.1.state().linked);
            ConstGauge::new(up).encode(family.encode_family(&labels(one))?)
        })?;
        let mut counter = |name, help, value: fn(&Board) -> u64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            boards.iter().try_for_each(|one| {
                ConstCounter::new(value(&one.1)).encode(family.encode_family(&labels(one))?)
            })
        };
        let (sent, received) = ("renkei_link_sent_bytes", "renkei_link_received_bytes");
        counter(
            "renkei_link_connections",
            "Connections relayed.",
            Board::connections,
        )?;
        counter(sent, "Relayed bytes to the link's other end.", |board| {
            board.traffic.to_wan()
        })?;
        counter(
            received,
            "Relayed bytes from the link's other end.",
            |board| board.traffic.to_app(),
        )
    }
}
