//! The site's own voice in the log, and its eye on what is said in its name (rule 3): it hands in
//! its statements until they are seen, cosigns, and raises an alarm at what it has not said.

use std::collections::BTreeMap;

use bytes::Bytes;
use renkei_api::status::Publishing;
use renkei_federation::{Envelope, View};
use renkei_site::ServerPart;
use time::{Duration, OffsetDateTime};

use super::{
    Inputs, MirrorError, MirrorReader, OwnError, SiteKeys, publisher, site_folder::place,
    witness::Witness,
};

/// A statement that witnesses have not seen for so long is being hidden, or cannot get through.
const HIDDEN: Duration = Duration::minutes(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    /// A statement with this site's keys that it did not make.
    Stranger,
    /// Its newest statement does not appear.
    Hidden,
    /// The registrar has admitted another identity under its name.
    Registrar,
    /// The witness cannot go on.
    Witness,
}

/// What this site has said, and what worries it.
#[derive(Debug, Default)]
pub(super) struct Monitor {
    publishing: Publishing,
    witnessing: Option<String>,
    alarms: BTreeMap<Alarm, String>,
}

impl Monitor {
    pub(super) fn publishing(&self) -> Publishing {
        self.publishing.clone()
    }

    pub(super) fn witnessing(&self) -> Option<String> {
        self.witnessing.clone()
    }

    pub(super) fn alarms(&self) -> impl Iterator<Item = String> {
        self.alarms.values().cloned()
    }

    pub(super) async fn speak(
        &mut self,
        part: &ServerPart,
        document: &Bytes,
        view: &View,
        sources: &[MirrorReader],
        inputs: &Inputs,
    ) {
        let now = (inputs.clock)();
        if let Err(error) = self
            .publish(part, document, view, sources, inputs, now)
            .await
        {
            self.fault(error.to_string());
        }
        self.cosign(part, view, sources, inputs, now).await;
    }

    async fn publish(
        &mut self,
        part: &ServerPart,
        document: &Bytes,
        view: &View,
        sources: &[MirrorReader],
        inputs: &Inputs,
        now: OffsetDateTime,
    ) -> Result<(), OwnError> {
        let Some(own) = SiteKeys::open(&inputs.state, &part.trust_domain)? else {
            let file = part.federation.as_ref().map_or("", |it| &it.site_file);
            self.fault(format!(
                "this site has not joined: renkei federation join {file}"
            ));
            return Ok(());
        };
        self.look(&own, view)?;
        let chain = view.state().chain(&own.genesis());
        let mut to_say: Vec<Envelope> = Vec::new();
        let known_version = chain.map_or(0, |chain| chain.root.version);
        let known_roots = usize::try_from(known_version).unwrap_or(usize::MAX);
        to_say.extend(own.roots().iter().skip(known_roots).cloned());
        let accepted = chain.and_then(|chain| chain.bundle.as_ref());
        let sequence = accepted.map_or(0, |accepted| accepted.statement.sequence);
        let announced = (&part.trust_domain, &part.announcement);
        let newest = publisher::newest(&own, announced, document, sequence, now)?;
        let Some((envelope, statement)) = newest else {
            return Ok(());
        };
        let witnessed = accepted.is_some_and(|accepted| accepted.digest == envelope.digest());
        if !witnessed {
            to_say.push(envelope);
        }
        self.publishing.sequence = Some(statement.sequence);
        self.publishing.witnessed = witnessed;
        self.hidden(
            !witnessed && now - statement.issued > HIDDEN,
            statement.issued,
        );
        self.hand_in("statements", &to_say, sources).await;
        Ok(())
    }

    /// Looks for statements with this site's keys that it did not make.
    fn look(&mut self, own: &SiteKeys, view: &View) -> Result<(), OwnError> {
        let made = own.made()?;
        let chain = view.state().chain(&own.genesis());
        let recent = chain.iter().flat_map(|chain| &chain.recent);
        let strange: Vec<String> = recent
            .filter(|(_, digest)| !made.contains(digest))
            .map(|(entry, _)| entry.to_string())
            .collect();
        let roots: Vec<_> = own.roots().iter().map(Envelope::digest).collect();
        let head = chain.map(|chain| chain.head);
        let text = match head {
            Some(head) if !roots.contains(&head) => Some(
                "the log has a site root of this site that was not made here: another party has its root keys, or this state folder is an old copy".to_owned(),
            ),
            _ if !strange.is_empty() => Some(format!(
                "the log has bundle statements of this site that were not made here (entries {}): another party has its online key, or this state folder was replaced; `renkei federation root renew --new-online-key` makes them invalid",
                strange.join(", ")
            )),
            _ => None,
        };
        self.alarm(Alarm::Stranger, text);
        let word = view.state().admissions().get(&own.head().trust_domain);
        let other = word.filter(|word| word.genesis != own.genesis());
        let text = other.map(|word| {
            format!(
                "the registrar has admitted another identity under this site's name: {}",
                word.genesis
            )
        });
        self.alarm(Alarm::Registrar, text);
        Ok(())
    }

    fn hidden(&mut self, hidden: bool, issued: OffsetDateTime) {
        let text = hidden.then(|| {
            let fault = self.publishing.fault.as_ref();
            let fault = fault.map_or(String::new(), |fault| format!(" ({fault})"));
            format!("this site's newest statement, of {issued}, does not appear in the log{fault}")
        });
        self.alarm(Alarm::Hidden, text);
    }

    async fn cosign(
        &mut self,
        part: &ServerPart,
        view: &View,
        sources: &[MirrorReader],
        inputs: &Inputs,
        now: OffsetDateTime,
    ) {
        let name = &part.trust_domain;
        let Some(expected) = view.federation().witnesses.keys.get(name) else {
            self.witnessing = None;
            return self.alarm(Alarm::Witness, None);
        };
        let cosigned = match Witness::open(&place(&inputs.state)) {
            Ok(Some(witness)) if witness.public() == *expected => witness
                .cosign(name, view, now)
                .map_err(|error| error.to_string()),
            Ok(Some(witness)) => Err(format!(
                "the federation file has another key for this witness than {}",
                witness.public()
            )),
            Ok(None) => Err("this site has no witness key: renkei federation join".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let text = cosigned.as_ref().err().cloned();
        self.witnessing = Some(text.clone().unwrap_or_else(|| "it cosigns".to_owned()));
        self.alarm(Alarm::Witness, text);
        if let Ok(Some(checkpoint)) = cosigned {
            let body = Bytes::from(checkpoint.to_text());
            for source in sources {
                match source.post("cosignatures", body.clone()).await {
                    Ok(true) => return,
                    Ok(false) => {}
                    // The log went on in the meantime, or is away; the next round comes.
                    Err(error) => tracing::debug!(%error, "a cosignature was not accepted"),
                }
            }
        }
    }

    /// In order, at the first mirror that takes statements.
    async fn hand_in(&mut self, name: &str, statements: &[Envelope], sources: &[MirrorReader]) {
        for statement in statements {
            match hand_in(name, statement, sources).await {
                Ok(()) => {}
                Err(error) => return self.fault(error.to_string()),
            }
        }
        self.publishing.fault = None;
    }

    /// The same fault again and again is one line in the log.
    fn fault(&mut self, text: String) {
        if self.publishing.fault.as_ref() != Some(&text) {
            tracing::warn!(error = %text, "this site's statement could not be submitted");
        }
        self.publishing.fault = Some(text);
    }

    fn alarm(&mut self, alarm: Alarm, text: Option<String>) {
        match text {
            Some(text) => {
                if self.alarms.get(&alarm) != Some(&text) {
                    tracing::error!(alarm = %text, "federation");
                }
                self.alarms.insert(alarm, text);
            }
            None => {
                self.alarms.remove(&alarm);
            }
        }
    }
}

async fn hand_in(
    name: &str,
    statement: &Envelope,
    sources: &[MirrorReader],
) -> Result<(), MirrorError> {
    let mut last = MirrorError::NoRegistry;
    for source in sources {
        match source.post(name, statement.to_bytes().into()).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}
