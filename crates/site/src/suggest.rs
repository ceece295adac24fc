//! "Did you mean ...?"

/// The known word nearest to what was written, if it is near enough to be a slip.
pub(crate) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let written = written.to_lowercase();
    known
        .into_iter()
        .filter(|word| word.len().abs_diff(written.len()) <= 2)
        .map(|word| (strsim::levenshtein(&written, word), word))
        .filter(|(distance, word)| *distance <= if word.len() < 5 { 1 } else { 2 })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_word_and_strangers_do_not() {
        let known = ["services", "workloads", "uses", "ca"];
        assert_eq!(nearest("servces", known), Some("services"));
        assert_eq!(nearest("Services", known), Some("services"));
        assert_eq!(nearest("use", known), Some("uses"));
        assert_eq!(nearest("listen", known), None);
        assert_eq!(nearest("x", known), None);
        assert_eq!(nearest("tokyo.example", ["hokkaido.example"]), None);
    }
}
