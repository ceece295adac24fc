//! Workload attestation: which selectors hold for a process. The Workload API and the listeners of
//! a proxy both ask here, so a selector means the same everywhere.
//!
//! Each kind of selector has an attestor. An attestor reads about a process only what the
//! selectors ask, and says of each selector whether it holds. What it reads must come from the
//! kernel or from root, never from the process itself.

mod index;
mod unix;

use std::{fmt, sync::Arc};

use renkei_site::Selector;

use crate::process::{AttestError, Process};

pub use index::SelectorIndex;
pub use unix::{ByUser, UnixAttestor, UserFault, by_user, holds_at_once};

/// Answers for the selectors of one kind.
pub trait WorkloadAttestor: fmt::Debug + Send + Sync {
    /// Whether a selector is of this kind.
    fn answers(&self, selector: &Selector) -> bool;

    /// Reads about a process what `asked` asks, all of which is of this kind. Nothing may be
    /// asked: then this says only whether the process may be examined. Blocks.
    fn examine(
        &self,
        process: &Process,
        asked: &[&Selector],
    ) -> Result<Box<dyn Evidence>, AttestError>;

    /// Selectors of this kind that hold for a process, as far as lists are filed under them. Some
    /// may not hold after all, but none that holds may be missing. Blocks.
    fn selectors(
        &self,
        process: &Process,
        index: &SelectorIndex,
    ) -> Result<Vec<Selector>, AttestError>;
}

/// What an attestor has found out about one process.
pub trait Evidence {
    /// Why a selector does not hold.
    fn holds(&self, selector: &Selector) -> Result<(), String>;
}

/// The first selector that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// A workload without selectors matches no process.
    #[error("the workload has no selectors")]
    NoSelectors,
    /// This one does not hold.
    #[error("{selector} does not hold: {reason}")]
    Selector {
        /// As the site file has it.
        selector: String,
        /// What was found instead.
        reason: String,
    },
}

/// The attestors of this node.
#[derive(Debug, Clone)]
pub struct Attestors(Arc<[Box<dyn WorkloadAttestor>]>);

impl Default for Attestors {
    fn default() -> Self {
        Self::new([Box::new(UnixAttestor::default()) as Box<dyn WorkloadAttestor>])
    }
}

impl Attestors {
    /// With these attestors alone.
    pub fn new(attestors: impl IntoIterator<Item = Box<dyn WorkloadAttestor>>) -> Self {
        Self(attestors.into_iter().collect())
    }

    /// The lists of an index that may hold for a process: all that do are among them. Blocks.
    pub fn candidates(
        &self,
        process: &Process,
        index: &SelectorIndex,
    ) -> Result<Vec<usize>, AttestError> {
        let mut proven = Vec::new();
        for attestor in self.0.iter() {
            proven.extend(attestor.selectors(process, index)?);
        }
        Ok(index.under(&proven))
    }

    /// Reads about a process what these selectors ask. Blocks.
    pub fn examine<'a>(
        &self,
        process: &Process,
        asked: impl IntoIterator<Item = &'a Selector>,
    ) -> Result<Examined, AttestError> {
        let asked: Vec<&Selector> = asked.into_iter().collect();
        let evidence = self.0.iter().map(|attestor| {
            let mut asked = asked.clone();
            asked.retain(|selector| attestor.answers(selector));
            attestor.examine(process, &asked)
        });
        Ok(Examined {
            evidence: evidence.collect::<Result<_, _>>()?,
            attestors: self.clone(),
        })
    }
}

/// A process that was examined.
pub struct Examined {
    attestors: Attestors,
    /// By each of the attestors.
    evidence: Vec<Box<dyn Evidence>>,
}

impl Examined {
    /// All selectors must hold. Only those may be asked about that the examination was for.
    pub fn matches(&self, selectors: &[Selector]) -> Result<(), Mismatch> {
        matches(selectors, |selector| self.holds(selector))
    }

    fn holds(&self, selector: &Selector) -> Result<(), String> {
        let mut all = self.attestors.0.iter().zip(&self.evidence);
        let answer = all.find(|(attestor, _)| attestor.answers(selector));
        let (_, evidence) = answer.ok_or("this node has no attestor for it")?;
        evidence.holds(selector)
    }
}

pub(crate) fn matches(
    selectors: &[Selector],
    holds: impl Fn(&Selector) -> Result<(), String>,
) -> Result<(), Mismatch> {
    if selectors.is_empty() {
        return Err(Mismatch::NoSelectors);
    }
    selectors.iter().try_for_each(|selector| {
        holds(selector).map_err(|reason| Mismatch::Selector {
            selector: selector.to_string(),
            reason,
        })
    })
}

#[cfg(test)]
mod tests;
