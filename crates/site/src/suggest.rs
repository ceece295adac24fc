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
        .map(|word| (distance(&written, word), word))
        .filter(|(distance, word)| *distance <= if word.len() < 5 { 1 } else { 2 })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Levenshtein's distance: how many letters to insert, remove or replace.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.chars().enumerate() {
        let mut left = index + 1;
        let mut next = vec![left];
        let above = row.iter().zip(row.iter().skip(1));
        for (other, (diagonal, above)) in to.iter().zip(above) {
            let replaced = diagonal + usize::from(*other != letter);
            left = replaced.min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
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
