//! One federation as it is followed: read every mirror, keep what verifies, stop at two histories.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use bytes::Bytes;
use renkei_api::status::{FederationStatus, MirrorStatus};
use renkei_federation::{Fork, Local, Member, TrustDomain, UpdateError, View, members};
use renkei_runtime::files;
use renkei_site::{FederationFile, Mirror, ServerPart};
use time::OffsetDateTime;

use super::{
    Inputs, Members, MirrorError, MirrorReader, SiteKeys, anchors,
    gossip::Gossip,
    log_cache::LogCache,
    monitor::Monitor,
    site_folder::place,
    status::{log_status, member_status},
};

/// A federation that is followed.
pub(super) struct Following {
    file: Arc<FederationFile>,
    own_name: TrustDomain,
    state: PathBuf,
    view: View,
    cache: LogCache,
    mirrors: BTreeMap<Mirror, MirrorStatus>,
    /// Proof of two histories: nothing is taken any more.
    halted: Option<String>,
    monitor: Monitor,
    gossip: Gossip,
}

impl Following {
    /// From the last good state on disk.
    pub(super) async fn begin(
        file: Arc<FederationFile>,
        own_name: &TrustDomain,
        inputs: &Inputs,
    ) -> Self {
        let federation = anchors(&file);
        let cache = LogCache::of(&place(&inputs.state), &federation);
        let empty = View::new(federation);
        let now = (inputs.clock)();
        let kept = MirrorReader::folder(cache.path());
        let view = match kept.extend(&empty, false, now, None).await {
            Ok((mut view, _)) => {
                view.files_are_there();
                tracing::info!(
                    federation = file.name,
                    entries = view.size(),
                    "loaded the last good state of the federation"
                );
                view
            }
            Err(MirrorError::NoCheckpoint) => empty,
            Err(error) => {
                tracing::error!(%error, folder = %cache.path().display(), "the copy of the log is damaged; it is read again from the mirrors");
                empty
            }
        };
        let mut following = Self {
            file,
            own_name: own_name.clone(),
            state: inputs.state.clone(),
            view,
            cache,
            mirrors: BTreeMap::new(),
            halted: None,
            monitor: Monitor::default(),
            gossip: Gossip::default(),
        };
        following.look_for_proof();
        following.import_removals();
        following
    }

    /// Withdrawals and suspensions that reached this site by another way than the log.
    fn import_removals(&mut self) {
        for (path, envelope) in super::revocation::kept(&self.state) {
            // One that the log has by now, or that is overtaken, says nothing new.
            if let Err(reason) = self.view.import_removal(&envelope) {
                tracing::debug!(file = %path.display(), %reason, "an imported statement is not used");
            }
        }
    }

    pub(super) fn is_of(&self, file: &FederationFile) -> bool {
        *self.file == *file
    }

    pub(super) fn members(
        &self,
        local: &Local,
        now: OffsetDateTime,
    ) -> BTreeMap<TrustDomain, Member> {
        members(self.view.state(), local, now)
    }

    /// Updates stop while the proof is there; an operator looks at it and moves it away.
    fn look_for_proof(&mut self) {
        let proof = self.cache.proof();
        self.halted = files::exists(&proof).then(|| {
            format!(
                "the log has shown two histories; the proof is in {}, and no update is taken while it is there",
                proof.display()
            )
        });
    }

    /// Reads every mirror, so that they can be compared; each as far as it verifies.
    pub(super) async fn read_mirrors(&mut self, inputs: &Inputs) {
        self.read_each(inputs).await;
        self.import_removals();
    }

    async fn read_each(&mut self, inputs: &Inputs) {
        self.look_for_proof();
        let wanted = self.file.mirrors.clone();
        self.mirrors.retain(|mirror, _| wanted.contains(mirror));
        for mirror in wanted {
            if self.halted.is_some() {
                return;
            }
            let read = self.read_mirror(&mirror, inputs).await;
            let now = (inputs.clock)();
            let status = self.mirrors.entry(mirror.clone());
            let status = status.or_insert_with(|| MirrorStatus {
                mirror: mirror.to_string(),
                last_success: None,
                fault: None,
            });
            let fault = read.as_ref().err().map(ToString::to_string);
            if let Some(text) = fault.as_ref().filter(|_| fault != status.fault) {
                tracing::warn!(%mirror, error = %text, "a mirror of the federation's log is not followed");
            }
            if fault.is_none() {
                status.last_success = Some(now);
            }
            status.fault = fault;
            if let Err(Fault::Fork(fork)) = read {
                self.halt(&fork);
            }
        }
    }

    async fn read_mirror(&mut self, mirror: &Mirror, inputs: &Inputs) -> Result<(), Fault> {
        let source = MirrorReader::new(mirror.clone(), &inputs.provider).await?;
        let now = (inputs.clock)();
        let before = self.view.size();
        let offered = source
            .extend(&self.view, true, now, Some(&self.cache))
            .await;
        let (mut next, offers) = match offered {
            Ok(offered) => offered,
            Err(MirrorError::Update(UpdateError::Fork(fork))) => return Err(Fault::Fork(fork)),
            Err(MirrorError::Update(error @ UpdateError::Entries { .. })) => {
                return Err(self.why(&source, now, error.into()).await);
            }
            Err(error) => return Err(error.into()),
        };
        let kept = self.cache.commit(&mut next);
        kept.map_err(MirrorError::Copy)?;
        if next.size() > before {
            tracing::debug!(%mirror, entries = next.size(), "the federation's log has grown");
        }
        self.view = next;
        let basis = self.view.basis();
        let known = basis.map_or(0, |basis| basis.checkpoint.root().size);
        match offers < known {
            true => Err(Fault::Older { offers, known }),
            false => Ok(()),
        }
    }

    /// Entries that do not add up are a damaged mirror, or another history. Replaying all that the
    /// mirror has tells which.
    async fn why(&self, source: &MirrorReader, now: OffsetDateTime, error: MirrorError) -> Fault {
        let nothing = View::new(self.view.federation().clone());
        match source.extend(&nothing, false, now, None).await {
            Ok((theirs, _)) => match self.view.fork_with(&theirs) {
                Some(fork) => Fault::Fork(Box::new(fork)),
                None => error.into(),
            },
            Err(_) => error.into(),
        }
    }

    /// The newest checkpoint, as a note; empty when there is none.
    pub(super) fn newest(&self) -> Bytes {
        let newest = self.view.newest();
        newest.map_or_else(Bytes::new, |newest| newest.to_text().into())
    }

    /// Compares with what a few other members have seen.
    pub(super) async fn ask_members(&mut self, members: &Members, inputs: &Inputs) {
        if self.halted.is_some() {
            return;
        }
        if let Some(fork) = self.gossip.ask(members, &self.view, inputs).await {
            self.halt(&fork);
        }
    }

    fn halt(&mut self, fork: &Fork) {
        if let Err(error) = self.cache.keep_proof(fork) {
            tracing::error!(%error, "the proof of two histories could not be kept");
        }
        self.look_for_proof();
        tracing::error!(
            federation = self.file.name,
            ours = fork.ours,
            theirs = fork.theirs,
            "the federation's log has shown two histories; no update is accepted any more; traffic continues"
        );
    }

    /// Says what this site is, cosigns, and looks for what others say in its name.
    pub(super) async fn speak(&mut self, part: &ServerPart, document: &Bytes, inputs: &Inputs) {
        if self.halted.is_some() {
            return;
        }
        let mut sources = Vec::new();
        for mirror in &self.file.mirrors {
            // The status of the mirror says already what is wrong with it.
            sources.extend(MirrorReader::new(mirror.clone(), &inputs.provider).await);
        }
        let watch = &mut self.monitor;
        watch
            .speak(part, document, &self.view, &sources, inputs)
            .await;
    }

    pub(super) fn status(
        &self,
        members: &BTreeMap<TrustDomain, Member>,
        now: OffsetDateTime,
    ) -> FederationStatus {
        let mirrors = self.file.mirrors.iter();
        let own = SiteKeys::open(&self.state, &self.own_name).ok().flatten();
        let alarms = self.halted.iter().cloned();
        let alarms = alarms
            .chain(self.monitor.alarms())
            .chain(self.gossip.alarm());
        FederationStatus {
            name: self.file.name.clone(),
            origin: self.file.origin.clone(),
            identity: own.map(|own| own.genesis().to_string()),
            log: log_status(&self.view, now),
            mirrors: mirrors
                .filter_map(|mirror| self.mirrors.get(mirror).cloned())
                .collect(),
            members: members.values().map(member_status).collect(),
            publishing: Some(self.monitor.publishing()),
            witnessing: self.monitor.witnessing(),
            alarms: alarms.collect(),
        }
    }
}

/// What is wrong with a mirror.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    #[error("it has an older tree: {offers} entries, where witnesses have seen {known}")]
    Older { offers: u64, known: u64 },
    #[error("it shows another history of the log")]
    Fork(Box<Fork>),
}
