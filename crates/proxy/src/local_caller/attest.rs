//! Comparing the owner of a connection with a workload's selectors.

use renkei_runtime::{
    attest::{Attestors, ByUser, UserFault, by_user, holds_at_once},
    process,
};
use renkei_site::Selector;

use super::{Caller, OwnerError, SocketOwner, holder, socket_owner};

/// Why a local caller is not the workload that a listener is for.
#[derive(Debug, thiserror::Error)]
pub enum CallerError {
    /// No process, or none on this machine.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The user that a selector names cannot be looked up.
    #[error("{selector} cannot be looked up: {reason}")]
    NoAnswer {
        /// The selector as the site file has it.
        selector: String,
        /// What the user database says, if anything.
        reason: String,
    },
    /// A process of another user.
    #[error("the caller is a process of user {found}, and the listener is for {selector}")]
    OtherUser {
        /// The user of the caller.
        found: String,
        /// The selector that does not hold.
        selector: String,
    },
    /// The user's number means other users as well.
    #[error("the caller's user cannot be known: {reason}; so it does not match {selector}")]
    Indistinct {
        /// The selector that would hold.
        selector: String,
        /// Which users the number means.
        reason: String,
    },
    /// The user fits, something else about the process does not.
    #[error("the calling process of user {user} does not match: {reason}")]
    OtherProcess {
        /// The user of the calling process.
        user: String,
        /// The selector and what was found in its place.
        reason: String,
    },
}

impl CallerError {
    /// A short, stable name for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Owner(OwnerError::Foreign(_)) => "not_local",
            Self::Owner(OwnerError::Closed(_)) => "caller_closed",
            Self::Owner(OwnerError::Tables(_)) | Self::NoAnswer { .. } => "not_attested",
            Self::OtherUser { .. } => "other_user",
            Self::Indistinct { .. } => "indistinct_user",
            Self::OtherProcess { .. } => "other_process",
        }
    }
}

impl Caller {
    /// Whether the process at the other end of an accepted connection satisfies every selector, if
    /// that connection is still open afterwards. May block on the user database and `/proc`.
    pub fn attest(
        &self,
        selectors: &[Selector],
        attestors: &Attestors,
    ) -> Result<SocketOwner, CallerError> {
        let owner = self.owner()?;
        let needs_process = check_user(selectors, &owner)?;
        if !needs_process {
            return Ok(owner);
        }
        if owner.inode == 0 {
            return Err(OwnerError::Closed(self.peer).into());
        }
        let examined = holder::check(selectors, &owner, attestors);
        // The inode may have gone to another socket, and the processes looked at be those of that.
        if socket_owner(self.peer, self.local)? != owner {
            return Err(OwnerError::Closed(self.peer).into());
        }
        examined.map_err(|reason| CallerError::OtherProcess {
            user: user_name(owner.uid),
            reason,
        })?;
        Ok(owner)
    }

    /// Whether the process at the other end certainly satisfies every selector, as far as that can
    /// be known without blocking: by its user alone. If not, [`Caller::attest`] decides. This too
    /// holds only if the connection is still open afterwards.
    pub fn is_plainly(&self, selectors: &[Selector]) -> bool {
        self.seen
            .is_some_and(|owner| holds_at_once(selectors, owner.uid))
    }
}

/// What the socket's user says; `true` if selectors ask about its processes as well.
fn check_user(selectors: &[Selector], owner: &SocketOwner) -> Result<bool, CallerError> {
    match by_user(selectors, owner.uid) {
        Ok(answer) => Ok(answer == ByUser::AskProcess),
        Err(UserFault::NoAnswer { selector, reason }) => {
            Err(CallerError::NoAnswer { selector, reason })
        }
        Err(UserFault::OtherUser(selector)) => Err(CallerError::OtherUser {
            found: user_name(owner.uid),
            selector,
        }),
        Err(UserFault::Indistinct { selector, reason }) => {
            Err(CallerError::Indistinct { selector, reason })
        }
        Err(fault @ UserFault::NoSelectors) => Err(CallerError::OtherProcess {
            user: user_name(owner.uid),
            reason: fault.to_string(),
        }),
    }
}

fn user_name(uid: u32) -> String {
    let name = process::user_name(uid).ok().flatten();
    name.unwrap_or_else(|| uid.to_string())
}
