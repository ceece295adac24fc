//! The machines of a site, and what is on which of them.

use std::collections::BTreeSet;

use renkei_spiffe::SpiffeId;
use serde::{Deserialize, Serialize};

use crate::{Gateway, HostPort, NodeSpec, Service, Site, Workload};

/// The path of a node's identity, before its name.
pub(crate) const NODE_PATH: &str = "/renkei/node/";

/// Which processes of a site something is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// That of the server, and every node.
    Everywhere,
    /// That of the server alone.
    Server,
    /// The nodes of these names.
    Nodes(BTreeSet<String>),
}

impl Placement {
    /// Whether it is for the process of the server.
    pub fn includes_server(&self) -> bool {
        matches!(self, Self::Everywhere | Self::Server)
    }

    /// Whether it is for the node of that name.
    pub fn includes_node(&self, name: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Server => false,
            Self::Nodes(names) => names.contains(name),
        }
    }

    /// Whether there may be a process that both are for.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everywhere, _) | (_, Self::Everywhere) => true,
            (Self::Nodes(names), Self::Nodes(others)) => !names.is_disjoint(others),
            (one, other) => one == other,
        }
    }

    fn nodes<'a>(names: impl IntoIterator<Item = &'a String>) -> Self {
        Self::Nodes(names.into_iter().cloned().collect())
    }
}

/// A process of the site that has a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process<'a> {
    /// That of `renkei up`.
    Server,
    Node(&'a NodeSpec),
}

impl Process<'_> {
    pub(crate) fn is_in(self, placement: &Placement) -> bool {
        match self {
            Self::Server => placement.includes_server(),
            Self::Node(node) => placement.includes_node(&node.name),
        }
    }
}

impl Workload {
    /// The processes that may run next to it.
    pub(crate) fn placement(&self) -> Placement {
        match self.on.is_empty() {
            true => Placement::Everywhere,
            false => Placement::nodes(&self.on),
        }
    }
}

impl Site {
    /// The processes that hold a service.
    pub(crate) fn placement(&self, service: &Service) -> Placement {
        let gateways = || {
            let nodes = self.nodes.values();
            nodes.filter(|node| node.gateway.is_some())
        };
        match service.on.is_empty() {
            false => Placement::nodes(&service.on),
            true if self.gateway.is_some() || gateways().next().is_none() => Placement::Server,
            true => Placement::nodes(gateways().map(|node| &node.name)),
        }
    }

    /// The services that a node holds, or without a name the process of `renkei up`. None if there
    /// is no such node.
    pub fn services_held(&self, node: Option<&str>) -> Option<Vec<&Service>> {
        let process = match node {
            None => Process::Server,
            Some(name) => Process::Node(self.nodes.get(name)?),
        };
        let services = self.services.values();
        let held = services.filter(|service| process.is_in(&self.placement(service)));
        Some(held.collect())
    }

    /// All processes that have a proxy.
    pub(crate) fn processes(&self) -> impl Iterator<Item = Process<'_>> {
        let nodes = self.nodes.values().map(Process::Node);
        std::iter::once(Process::Server).chain(nodes)
    }

    /// Where other sites reach a process.
    pub(crate) fn gateway_at<'a>(&'a self, process: Process<'a>) -> Option<&'a Gateway> {
        match process {
            Process::Server => self.gateway.as_ref(),
            Process::Node(node) => node.gateway.as_ref(),
        }
    }

    /// The gateways that other processes of the site can dial, each with its address.
    pub(crate) fn dialled_gateways(&self) -> impl Iterator<Item = (Process<'_>, &HostPort)> {
        self.processes().filter_map(|process| {
            let gateway = self.gateway_at(process)?;
            Some((process, gateway.advertise.as_ref()?))
        })
    }

    /// The identity of a process on links.
    pub(crate) fn link_id(&self, process: Process<'_>) -> SpiffeId {
        match process {
            Process::Server => self.server_id.clone(),
            Process::Node(node) => node.id.clone(),
        }
    }
}
