//! `renkei federation` and `renkei registry`: founding, joining, admitting, looking.

mod args;
mod identity;
mod init;
mod inspect;
mod log;
mod registry;
mod show;
mod site;
mod statements;
mod submit;

use std::process::ExitCode;

pub(crate) use args::{Federation, Identity, Registry};
pub(crate) use identity::run as run_identity;
pub(crate) use registry::run as run_registry;

use crate::arguments::Output;

pub(crate) async fn run(command: Federation, form: Output) -> miette::Result<ExitCode> {
    match command {
        Federation::Init(args) => init::init(&args, form),
        Federation::Join(args) => site::join(&args, form),
        Federation::Root(args::Root::Renew(args)) => site::renew(&args, form),
        Federation::Admit(args) => statements::admit(&args, form).await,
        Federation::Suspend(args) => statements::take_out(&args, statements::SUSPEND, form).await,
        Federation::Remove(args) => statements::take_out(&args, statements::REMOVE, form).await,
        Federation::Endorse(args) => statements::endorse(&args, form).await,
        Federation::Withdraw(args) => statements::withdraw(&args, form).await,
        Federation::Submit(args) => statements::submit(&args, form).await,
        Federation::ImportRemoval(args) => site::import_removal(&args, form),
        Federation::Status(args) => inspect::status(&args, form).await,
        Federation::Verify(args) => inspect::verify(&args, form).await,
    }
}
