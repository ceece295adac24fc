//! Failures as the user of a command sees them: a sentence, its cause, a way out.

use std::process::ExitCode;

use miette::{MietteHandlerOpts, Report};
use serde_json::{Value, json};
use textwrap::{WordSeparator, WordSplitter};

use crate::{arguments::Output, load::LoadError, output};

/// Lines break at spaces only: a path or a command in a message can be copied whole.
pub(crate) fn render_for_people() {
    // An error means that it is set already.
    let _ = miette::set_hook(Box::new(|_| {
        let handler = MietteHandlerOpts::new()
            .break_words(false)
            .word_separator(WordSeparator::AsciiSpace)
            .word_splitter(WordSplitter::NoHyphenation);
        Box::new(handler.build())
    }));
}

/// Prints the failure: to standard error for people, or as the result for programs.
pub(crate) fn tell(report: &Report, form: Output) -> ExitCode {
    match form {
        Output::Text => output::note(&format!("{report:?}")),
        // A value of strings is always JSON.
        Output::Json => drop(output::print_json(&document(report))),
    }
    ExitCode::from(exit_status(report))
}

/// 2 when the site file is at fault, 1 for everything else.
fn exit_status(report: &Report) -> u8 {
    match report.downcast_ref::<LoadError>() {
        Some(_) => 2,
        None => 1,
    }
}

/// `{"ok": false, "error": .., "hint": .., "faults": [..]}`; the last two where there are some.
fn document(report: &Report) -> Value {
    let causes: Vec<String> = report.chain().map(ToString::to_string).collect();
    let mut document = serde_json::Map::new();
    document.insert("ok".into(), false.into());
    document.insert("error".into(), causes.join(": ").into());
    if let Some(hint) = report.help() {
        document.insert("hint".into(), hint.to_string().into());
    }
    if let Some(LoadError::Faulty(faults)) = report.downcast_ref() {
        document.insert("faults".into(), json!(faults));
    }
    document.into()
}
