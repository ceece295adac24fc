//! No text makes the reader panic, hang, or point outside the text.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;
use renkei_site::{diff, parse};

const HUB: &str = include_str!("fixtures/hub.yaml");
const EVERY_KEY: &str = include_str!("fixtures/every-key.yaml");

/// Reads a text; faults must point into it and be renderable.
fn read(text: &str) {
    match parse("site.yaml", text) {
        Ok(site) => assert!(diff(&site, &site).is_empty()),
        Err(faults) => {
            let stripped = text.strip_prefix('\u{feff}').unwrap_or(text);
            assert!(!faults.is_empty());
            for fault in faults.iter() {
                let end = fault.place.offset + fault.place.length;
                assert!(stripped.get(fault.place.offset..end).is_some(), "{fault:?}");
            }
            let mut rendered = String::new();
            miette::GraphicalReportHandler::new()
                .render_report(&mut rendered, &faults)
                .unwrap();
        }
    }
}

fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "site",
        "peers",
        "services",
        "workloads",
        "uses",
        "selectors",
        "bundle",
        "backends",
        "osaka.example",
        "osaka.example/a",
        "127.0.0.1:1",
        "unix:user:a",
        "*a",
        "&a",
        "!t",
        "<<",
        "---",
        "?",
        "|",
        ">",
        "'",
        "\"",
        "#",
        "日本",
        "~",
        "0x1F",
        "1e999",
        ".nan",
        "yes",
        ": ",
        ":\n",
        ", ",
        "\n",
        "\n  ",
        "\n    ",
        "\n  - ",
        "{",
        "}",
        "[",
        "]",
        "\t",
        "\r",
        "\0",
    ]);
    prop::collection::vec(word, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_text(text in any::<String>()) {
        read(&text);
    }

    #[test]
    fn any_words_of_the_language(text in words()) {
        read(&text);
    }

    #[test]
    fn any_slip_in_a_good_file(
        every in any::<bool>(),
        at in any::<prop::sample::Index>(),
        removed in 0..8_usize,
        typed in "[a-z:{}\\[\\], \n\"'&*!|>?#日-]{0,6}",
    ) {
        let good: Vec<char> = if every { EVERY_KEY } else { HUB }.chars().collect();
        let at = at.index(good.len());
        let rest = good.iter().skip(at + removed);
        let text: String = good.iter().take(at).copied().chain(typed.chars()).chain(rest.copied()).collect();
        read(&text);
    }
}
