//! Three sites as processes: Osaka listens nowhere, Hokkaido is its hub, Kyushu calls it.

use std::net::SocketAddr;

use renkei_testkit::{free_address, wait_for};
use serde_json::Value;

use super::{SOON, Site, echo, own_uid};

/// The three, and the address at which Kyushu calls.
pub(crate) struct Three {
    pub(crate) hokkaido: Site,
    pub(crate) osaka: Site,
    pub(crate) kyushu: Site,
    pub(crate) local: SocketAddr,
}

impl Three {
    pub(crate) fn start() -> Self {
        Self::start_sites(["hokkaido", "osaka", "kyushu"].map(Site::new))
    }

    /// The same with sites of these names.
    pub(crate) fn start_sites([hokkaido, osaka, kyushu]: [Site; 3]) -> Self {
        let mut three = Self {
            hokkaido,
            osaka,
            kyushu,
            local: free_address(),
        };
        three.write(true);
        for site in [&mut three.hokkaido, &mut three.osaka, &mut three.kyushu] {
            site.start();
        }
        three.wait_linked();
        three
    }

    /// Writes the three site files; with `relays`, Hokkaido forwards to Osaka.
    pub(crate) fn write(&self, relays: bool) {
        let Self {
            hokkaido,
            osaka,
            kyushu,
            local,
        } = self;
        let hub = hokkaido.gateway;
        for site in [hokkaido, osaka, kyushu] {
            for of in [hokkaido, osaka, kyushu] {
                let file = site.path(&format!("{}.json", of.name));
                std::fs::write(file, of.own_bundle()).expect("bundle file");
            }
        }
        let peer = |name: &str, url: SocketAddr, gateway: &str| {
            format!(
                "  {name}.example: {{bundle: https://{url}/, bootstrap: {name}.json{gateway}}}\n"
            )
        };
        let at_hub = format!(", gateway: {hub}");
        let relays = match relays {
            true => format!("{}relays: [osaka.example]\n", peer("osaka", hub, "")),
            false => peer("osaka", hub, &at_hub),
        };
        hokkaido.write(&format!(
            "peers:\n{}{relays}",
            peer("kyushu", kyushu.gateway, "")
        ));
        kyushu.write(&format!(
            "peers:\n{}workloads:\n  collector: {{selectors: [{}], uses: {{osaka.example/store: \
             {local}}}}}\n",
            peer("osaka", hub, &at_hub),
            own_uid(),
        ));
        let osaka_text = format!(
            "site: osaka\ntrust_domain: osaka.example\ngateway: {{via: hokkaido.example}}\n\
             lifetimes: {{x509_svid: {}, bundle_refresh: 1s}}\npeers:\n{}{}services:\n  \
             store: {{backends: [{}], allow: [kyushu.example/collector]}}\n",
            osaka.svid_life,
            peer("hokkaido", hub, &at_hub),
            peer("kyushu", kyushu.gateway, ""),
            echo(),
        );
        std::fs::write(osaka.file(), osaka_text).expect("site file");
    }

    pub(crate) fn wait_linked(&self) {
        wait_for("Osaka is linked", SOON, || {
            let hub = self.osaka.status()["proxy"]["hub"].clone();
            let relayed = self.relayed();
            (hub["linked"] == true && relayed["linked"] == true).then_some(())
        });
    }

    pub(crate) fn relayed(&self) -> Value {
        self.hokkaido.status()["proxy"]["relays"][0].clone()
    }
}
