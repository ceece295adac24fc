//! Lists in pages that stay right while the list changes: the token of the next page is the last
//! ID of this one.

use tonic::Status;

/// In one answer at most; some clients look at the first answer alone when they name no size.
const MOST: usize = 10_000;
/// No token of ours is longer.
const MAX_TOKEN: usize = 2_048;

/// One page, and the token of the next: empty when there is none. The items come in the order of
/// their IDs.
pub(super) fn page<T>(
    items: impl Iterator<Item = T>,
    id: impl Fn(&T) -> String,
    (size, token): (i32, &str),
) -> Result<(Vec<T>, String), Status> {
    let size = usize::try_from(size)
        .map_err(|_| Status::invalid_argument(format!("a page has no {size} items")))?;
    if token.len() > MAX_TOKEN {
        return Err(Status::invalid_argument("this is no token of a page"));
    }
    let size = match size {
        0 => MOST,
        size => size.min(MOST),
    };
    let mut rest = items.skip_while(|item| !token.is_empty() && id(item).as_str() <= token);
    let page: Vec<T> = rest.by_ref().take(size).collect();
    let next = match (rest.next(), page.last()) {
        (Some(_), Some(last)) => id(last),
        _ => String::new(),
    };
    Ok((page, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(size: i32, mut list: Vec<&'static str>, gone: &str) -> Vec<Vec<&'static str>> {
        let (mut pages, mut token) = (Vec::new(), String::new());
        loop {
            let items = list.clone().into_iter();
            let (page, next) = page(items, |one| (*one).to_owned(), (size, &token)).unwrap();
            pages.push(page);
            if next.is_empty() {
                return pages;
            }
            list.retain(|one| *one != gone);
            token = next;
        }
    }

    #[test]
    fn no_item_is_left_out_when_the_last_one_of_a_page_goes() {
        let all = || vec!["a", "b", "c", "d", "e"];
        assert_eq!(pages(0, all(), ""), [all()]);
        let two = [vec!["a", "b"], vec!["c", "d"], vec!["e"]];
        assert_eq!(pages(2, all(), ""), two);
        assert_eq!(pages(2, all(), "b"), two);
        assert_eq!(pages(5, all(), ""), [all()]);
        page([0].into_iter(), |_| String::new(), (-1, "")).unwrap_err();
    }
}
