//! Identities for people: short as long as they are unique, and found by their beginning.

use super::CommandError;
use crate::plugin::Suggestions;

/// Fewer letters than that are not worth saving.
const SHORT: usize = 8;

/// The beginnings of some identities that tell them apart, of at least eight letters and of equal length.
///
/// ```
/// use palfrey_host::presence::short_names;
///
/// let identities = ["0198c0ffee01", "0198c0ffee02", "0198deadbeef"];
/// assert_eq!(short_names(&identities), identities, "two of them differ in the last letter only");
/// assert_eq!(short_names(&identities[1..]), ["0198c0ff", "0198dead"]);
/// ```
pub fn short_names<'a>(identities: &[&'a str]) -> Vec<&'a str> {
    let mut sorted = identities.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let common = |pair: &[&str]| pair[0].chars().zip(pair[1].chars()).take_while(|(one, other)| one == other).count();
    let length = sorted.windows(2).map(|pair| common(pair) + 1).max().unwrap_or(0).max(SHORT);
    identities.iter().map(|identity| beginning(identity, length)).collect()
}

fn beginning(text: &str, length: usize) -> &str {
    text.char_indices().nth(length).map_or(text, |(end, _)| &text[..end])
}

/// The one identity that begins with `name`.
pub(crate) fn find<'a>(
    what: &'static str,
    name: &str,
    identities: impl IntoIterator<Item = &'a str>,
) -> Result<&'a str, CommandError> {
    let identities: Vec<_> = identities.into_iter().collect();
    let matching: Vec<_> = identities.iter().filter(|identity| identity.starts_with(name)).copied().collect();
    match matching[..] {
        [only] => Ok(only),
        [] => {
            // What was typed is a beginning: it is compared with beginnings.
            let short = short_names(&identities).first().map_or(0, |short| short.chars().count());
            let length = name.chars().count().max(short);
            let there = identities.iter().map(|identity| beginning(identity, length));
            Err(CommandError::Unknown { what, name: name.to_owned(), there: Suggestions::new(name, there) })
        }
        [..] => {
            if let Some(same) = matching.iter().find(|identity| **identity == name) {
                return Ok(same);
            }
            let matching = short_names(&matching).into_iter().map(str::to_owned).collect();
            Err(CommandError::Ambiguous { what, name: name.to_owned(), matching })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_an_identity_is_enough_and_a_mistake_gets_near_ones() {
        let there = ["0198c0ffee01", "0198c0ffee02", "4711deadbeef"];
        let check = |name: &str, expect: Result<&str, &str>| {
            let found = find("worker", name, there).map_err(|error| error.to_string());
            assert_eq!(found, expect.map_err(str::to_owned));
        };
        check("47", Ok("4711deadbeef"));
        check("0198c0ffee02", Ok("0198c0ffee02"));
        check("0198", Err("`0198` is the beginning of several workers: `0198c0ffee01`, `0198c0ffee02`"));
        check("4711daedbe", Err("there is no worker `4711daedbe`: did you mean `4711deadbeef`?"));
        check("xyz", Err("there is no worker `xyz`: there are `0198c0ffee01`, `0198c0ffee02`, `4711deadbeef`"));
        assert_eq!(find("job", "0198", []).unwrap_err().to_string(), "there is no job `0198`: there are none yet");
        assert_eq!(find("job", "ab", ["ab", "abc"]).unwrap(), "ab");
    }
}
