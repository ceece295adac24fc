//! SPIFFE-ID section 2, by example and by property.

use proptest::prelude::*;
use renkei_spiffe::{IdError, SpiffeId, TrustDomain};

#[test]
fn ids_that_the_standard_allows() {
    for text in [
        "spiffe://osaka.example",
        "spiffe://osaka.example/collector",
        "spiffe://osaka_1.example/ns/a/sa/B-2.x_y",
        "SPIFFE://osaka.example/collector",
    ] {
        let id = SpiffeId::parse(text).expect(text);
        assert_eq!(id.to_string().to_lowercase(), text.to_lowercase());
    }
}

#[test]
fn ids_that_the_standard_forbids_each_with_its_reason() {
    let cases = [
        ("osaka.example/collector", IdError::Scheme),
        ("https://osaka.example/x", IdError::Scheme),
        ("spiffe:///x", IdError::EmptyTrustDomain),
        (
            "spiffe://Osaka.example/x",
            IdError::TrustDomainCharacter('O'),
        ),
        (
            "spiffe://osaka.example:8443/x",
            IdError::TrustDomainCharacter(':'),
        ),
        (
            "spiffe://user@osaka.example/x",
            IdError::TrustDomainCharacter('@'),
        ),
        (
            "spiffe://osaka%2eexample/x",
            IdError::TrustDomainCharacter('%'),
        ),
        ("spiffe://osaka.example/", IdError::EmptySegment),
        ("spiffe://osaka.example/a//b", IdError::EmptySegment),
        ("spiffe://osaka.example/a/", IdError::EmptySegment),
        ("spiffe://osaka.example/../tokyo", IdError::DotSegment),
        ("spiffe://osaka.example/a/./b", IdError::DotSegment),
        ("spiffe://osaka.example/a?b", IdError::PathCharacter('?')),
        ("spiffe://osaka.example/a#b", IdError::PathCharacter('#')),
        ("spiffe://osaka.example/a\0b", IdError::PathCharacter('\0')),
        ("spiffe://osaka.example/大阪", IdError::PathCharacter('大')),
    ];
    for (text, error) in cases {
        assert_eq!(SpiffeId::parse(text), Err(error), "{text:?}");
    }
}

#[test]
fn lengths_are_bounded() {
    let name = "a".repeat(256);
    assert_eq!(
        TrustDomain::parse(&name),
        Err(IdError::TooLong { limit: 255 })
    );
    let fits = format!("spiffe://t/{}", "a".repeat(2048 - 11));
    assert!(SpiffeId::parse(&fits).is_ok());
    assert_eq!(
        SpiffeId::parse(&format!("{fits}a")),
        Err(IdError::TooLong { limit: 2048 })
    );
}

#[test]
fn the_short_form_of_the_site_file() {
    let own = TrustDomain::parse("tokyo.example").expect("trust domain");
    let full = |text| SpiffeId::parse(text).expect("id");
    let short = |text| SpiffeId::parse_short(text, &own).expect("id");
    assert_eq!(short("mdx"), full("spiffe://tokyo.example/mdx"));
    assert_eq!(
        short("osaka.example/collector"),
        full("spiffe://osaka.example/collector")
    );
    assert_eq!(
        short("spiffe://osaka.example/a/b"),
        full("spiffe://osaka.example/a/b")
    );
    assert_eq!(
        short("osaka.example/collector").short(),
        "osaka.example/collector"
    );
}

proptest! {
    #[test]
    fn any_text_is_read_back_or_refused(text in "\\PC{0,80}") {
        if let Ok(id) = SpiffeId::parse(&text) {
            prop_assert_eq!(SpiffeId::parse(&id.to_string()), Ok(id));
        }
    }
}
