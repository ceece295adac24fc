//! Look-ups in the user database, which may be a server that gives no answer.

use std::{io, path::Path};

use nix::unistd::{Group, User};

use crate::files::{self, Budget};

fn look_up<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> nix::Result<T> + Send + 'static,
) -> io::Result<T> {
    let work = move || work().map_err(io::Error::from);
    files::run_for(Budget::UserDatabase, Path::new(what), work)
}

/// The ID of the user with this name, if there is one.
///
/// # Errors
/// When the user database fails, or gives no answer within [`files::LIMIT`].
pub fn user_id(name: &str) -> io::Result<Option<u32>> {
    let owned = name.to_owned();
    let user = look_up(&format!("user {name}"), move || User::from_name(&owned))?;
    Ok(user.map(|user| user.uid.as_raw()))
}

/// The ID of the group with this name, if there is one.
///
/// # Errors
/// As for [`user_id`].
pub fn group_id(name: &str) -> io::Result<Option<u32>> {
    let owned = name.to_owned();
    let group = look_up(&format!("group {name}"), move || Group::from_name(&owned))?;
    Ok(group.map(|group| group.gid.as_raw()))
}

/// The name of the user with this ID, if there is one.
///
/// # Errors
/// As for [`user_id`].
pub fn user_name(id: u32) -> io::Result<Option<String>> {
    let user = look_up(&format!("user ID {id}"), move || User::from_uid(id.into()))?;
    Ok(user.map(|user| user.name))
}
